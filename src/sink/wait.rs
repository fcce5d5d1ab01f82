//! Waiting for a database on a worker's thread.

use std::future::Future;

use tokio::runtime::Handle;
use tokio::task::block_in_place;

/// Waits for what a partition's start needs. Partitions may be assigned while the same thread waits for a long write, which stays in
/// its group meanwhile ([`super::Desk::turn`]); tokio refuses a plain `block_on` within another.
pub(super) fn wait_for<F: Future>(runtime: &Handle, future: F) -> F::Output {
    block_in_place(|| runtime.block_on(future))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_may_wait_within_a_wait() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let handle = runtime.handle();
        let inner = || wait_for(handle, async { tokio::task::yield_now().await });
        inner();
        assert_eq!(
            handle.block_on(async {
                inner();
                1
            }),
            1
        );
    }
}
