//! How much of what was freed glibc's allocator keeps for itself.
//!
//! Left alone it learns: a large block that is freed raises the size from which blocks are mapped apart (and given back when they
//! are freed) to its own, up to 32 MB, and what each arena keeps of freed memory to twice that (M_MMAP_THRESHOLD in
//! mallopt(3)). A GeoIP database replaced teaches it the most there is to learn, and tens of megabytes stay behind in the arena
//! of whichever thread read it: after ten reloads 77 MB were measured.

/// Blocks from here on are mapped apart. Above what librdkafka fetches at once, which is mapped anew each time else.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_APART: libc::c_int = 4 << 20;

/// An arena gives back what is free at its end from here on.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MOST_KEPT: libc::c_int = 8 << 20;

/// From now on the allocator learns nothing: large blocks go back to the system when they are freed. To be called before
/// threads are started. Other allocators than glibc's are left as they are.
pub fn give_back_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt takes no pointers, and no other thread is there yet that it could race with.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_APART);
        libc::mallopt(libc::M_TRIM_THRESHOLD, MOST_KEPT);
    }
}
