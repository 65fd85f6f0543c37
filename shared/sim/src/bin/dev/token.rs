//! `cargo dev token`: mints a token with the issuer of the running `cargo dev up`.

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

/// Requests a token for `caller` from the control API at `control`.
pub(crate) async fn mint(control: &str, caller: Caller, hours: u32) -> anyhow::Result<String> {
    let spec = TokenSpec {
        expires_in: i64::from(hours) * 60 * 60,
        ..caller.token()
    };
    let client = TrustRoots::default().client_builder().build()?;
    let response = client.post(format!("{control}/tokens")).json(&spec).send();
    let response = response.await.context("no response from the issuer")?;
    let status = response.status();
    ensure!(
        status.is_success(),
        "the issuer rejected the request: {status}"
    );
    let signed: Signed = response.json().await?;
    Ok(signed.token)
}
