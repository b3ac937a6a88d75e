//! Types that the kernel side and the daemon share, and the pure matching code both use.
#![no_std]
