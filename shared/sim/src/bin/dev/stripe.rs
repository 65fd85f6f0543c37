//! `cargo dev stripe`: puts the simulated Stripe's clock ahead, so that the next invoices come.

use anyhow::Context as _;
use clap::Subcommand;
use dezky_sim::demo;
use jiff::Span;

use crate::instance;

#[derive(Debug, Subcommand)]
pub(crate) enum Stripe {
    /// Put Stripe's clock ahead, and wait until the service knows the invoices of all periods that began.
    Advance {
        /// Span, such as `1mo`, `10d` or `6h`.
        by: Span,
    },
}

pub(crate) async fn stripe(command: Stripe) -> anyhow::Result<()> {
    let running = instance::running()?.context("`cargo dev up` is not running")?;
    let (api, control) = running
        .api
        .zip(running.control)
        .context("`cargo dev up` is still starting")?;
    let Stripe::Advance { by } = command;
    let say = |line: &str| println!("  {line}");
    demo::advance(&api, &control, by, say).await?;
    Ok(())
}
