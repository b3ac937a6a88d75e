//! Holds the namespaces of one test host and the servers in them, until its standard input is closed.
//!
//! Started as `unshare --net --mount tollgate-testbed --dir DIR --tools DIR`.

use std::path::PathBuf;

use clap::Parser;

#[derive(Debug, Parser)]
struct Args {
    /// Where its files go; emptied by whoever made it.
    #[arg(long)]
    dir: PathBuf,
    /// Where `cargo xtask tools` has put moto.
    #[arg(long)]
    tools: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let bed = tollgate_tests::bed::Bed::start(&args.dir, &args.tools).await?;
    println!("{}", serde_json::to_string(&bed.info)?);
    // The test's end of this pipe closes when the test ends, however it ends.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())).await??;
    drop(bed);
    tollgate_tests::bed::take_down(&args.dir)
}
