//! Room `launch`.
