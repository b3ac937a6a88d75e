//! What single stages of the data path cost by themselves: no network, one thread. `cargo xtask bench` runs it.
//!
//! Prints one line of JSON for the stage that is named: `judge`, `masking` or `signing`.

mod judge;
mod masking;
mod signing;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let figures = match std::env::args().nth(1).as_deref() {
        Some("judge") => judge::measure()?,
        Some("masking") => masking::measure()?,
        Some("signing") => signing::measure()?,
        _ => anyhow::bail!("name the stage: judge, masking, signing"),
    };
    println!("{figures}");
    Ok(())
}
