//! Room `sys`.
#![expect(unsafe_code, reason = "this room is where the kernel is called")]
