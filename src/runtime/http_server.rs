//! Serves HTTP with bounds: on connections, and on the time a client may take for its headers.
//!
//! axum has the routes; connections are served by hyper directly, because `axum::serve` waits for a client's headers
//! for ever and takes any number of connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower_service::Service;

/// How long requests that are under way at the end may take.
const FINISH_WITHIN: Duration = Duration::from_secs(3);

/// Who sent a request, as an extension of it.
#[derive(Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections served at once; further ones are closed at once.
    pub max_connections: usize,
    /// For the headers of a request.
    pub header_timeout: Duration,
}

/// Serves until told to stop, then finishes what is under way. Without anybody to tell it: for ever.
pub async fn serve(listener: TcpListener, limits: Limits, router: Router, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(limits.max_connections));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(_) if crate::testing::mutant::is("http_gives_up") => return,
            Err(error) => {
                // Out of file descriptors, mostly: the data path goes on, and so do we when some are free again.
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let connection = one(stream, peer, limits, router.clone(), stop.clone());
        tokio::spawn(async move {
            connection.await;
            drop(place);
        });
    }
    let all = u32::try_from(limits.max_connections).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(FINISH_WITHIN, places.acquire_many(all)).await;
}

/// One connection, to its end.
async fn one(stream: TcpStream, peer: SocketAddr, limits: Limits, router: Router, mut stop: watch::Receiver<bool>) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        router.clone().call(request)
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).keep_alive(true);
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    // A client that goes away or sends nonsense is its own affair.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = told(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(FINISH_WITHIN, connection).await;
        }
    }
}

/// Waits until it is time to stop; for ever if the sender of the signal is gone.
pub async fn told(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
