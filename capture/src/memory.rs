//! Memory that is needed once: the kernel's types, whole libraries.

/// Has memory that is freed go back to the kernel from now on, beyond a few megabytes.
///
/// glibc raises these bounds by itself, to twice the largest block that was freed and up to 64 MiB,
/// and what is free at the end of a thread's memory is out of reach of [`give_back`] then.
#[allow(unsafe_code, reason = "mallopt has no safe interface")]
pub(crate) fn keep_little() {
    #[cfg(target_env = "gnu")]
    {
        const MOST: libc::c_int = 4 << 20;
        for bound in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
            // SAFETY: it takes numbers, and changes nothing but when memory is asked for and given back.
            unsafe { libc::mallopt(bound, MOST) };
        }
    }
}

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
