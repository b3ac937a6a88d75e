//! The allocator's memory.
//!
//! Owns the one call that gives unused pages back to the kernel. Called rarely: it takes milliseconds.

/// Gives back what is free now. Starting takes some tens of MiB (roots, policies, the model) that are not needed again.
pub fn give_back() {
    // SAFETY: no preconditions; a process whose allocator is another has nothing to be given back.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
