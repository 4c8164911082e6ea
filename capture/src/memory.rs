//! Memory that is needed once: the kernel's types, whole libraries.

/// Gives memory that was freed back to the kernel. The allocator of glibc keeps it otherwise, which
/// after a look into a machine's libraries are tens of megabytes.
#[allow(unsafe_code, reason = "malloc_trim has no safe interface")]
pub fn give_back() {
    // SAFETY: it takes a number, may be called at any time by any thread, and moves nothing that is
    // in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
