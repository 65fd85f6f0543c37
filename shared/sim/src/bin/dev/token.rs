//! `cargo dev token`: mints a token with the issuer of the running `cargo dev up`.

use anyhow::Context as _;
use dezky_sim::callers::{Caller, mint};

use crate::instance;

pub(crate) async fn token(caller: Caller, hours: u32) -> anyhow::Result<()> {
    let control = instance::running()?.and_then(|running| running.control);
    let control = control.context("`cargo dev up` is not running")?;
    println!("{}", mint(&control, caller, hours).await?);
    Ok(())
}
