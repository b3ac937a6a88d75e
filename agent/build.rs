//! Builds the one piece that is not Rust: the small provider that Node loads (`src/trust/node_roots.c`).

use std::path::PathBuf;
use std::process::Command;

fn main() {
    let source = "src/trust/node_roots.c";
    println!("cargo::rerun-if-changed={source}");
    println!("cargo::rerun-if-env-changed=CC");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("node_roots.so");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "gcc".into());
    let built = Command::new(&compiler)
        .args([
            "-shared",
            "-fPIC",
            "-Os",
            "-s",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-ffile-prefix-map=src=.",
            "-Wl,--build-id=none",
            "-o",
        ])
        .arg(&out)
        .arg(source)
        .status();
    match built {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("`{compiler}` could not build {source} ({status})"),
        Err(e) => panic!("cannot run `{compiler}` ({e}); install gcc, or name a C compiler in CC"),
    }
}
