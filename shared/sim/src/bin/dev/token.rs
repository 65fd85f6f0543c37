//! `cargo dev token`: a token for a caller, from the issuer that `up` runs.

use anyhow::{Context as _, ensure};
use dezky_shared::platform::tls::TrustRoots;
use dezky_sim::{callers::Caller, issuer::TokenSpec};
use serde::Deserialize;

use crate::instance;

pub(crate) async fn token(caller: Caller, hours: u32) -> anyhow::Result<()> {
    let control = instance::running()?.and_then(|running| running.control);
    let control = control.context("`cargo dev up` is not running")?;
    println!("{}", mint(&control, caller, hours).await?);
    Ok(())
}

#[derive(Debug, Deserialize)]
struct Signed {
    token: String,
}

/// Has the issuer behind `control` sign a token for `caller`.
pub(crate) async fn mint(control: &str, caller: Caller, hours: u32) -> anyhow::Result<String> {
    let spec = TokenSpec {
        expires_in: i64::from(hours) * 60 * 60,
        ..caller.token()
    };
    let client = TrustRoots::default().client_builder().build()?;
    let response = client.post(format!("{control}/tokens")).json(&spec).send();
    let response = response.await.context("the issuer does not answer")?;
    let status = response.status();
    ensure!(status.is_success(), "the issuer signed nothing: {status}");
    let signed: Signed = response.json().await?;
    Ok(signed.token)
}
