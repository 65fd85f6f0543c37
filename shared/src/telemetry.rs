//! Logs.

use anyhow::bail;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::optional;

/// Sends logs to standard output, as `RUST_LOG` (default `info`) and `LOG_FORMAT` (`json`, the default, or `pretty`)
/// say.
pub fn start() -> anyhow::Result<()> {
    let filter = optional::<String>("RUST_LOG")?.unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_new(&filter)
        .map_err(|error| anyhow::anyhow!("RUST_LOG is not valid: {error}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    match optional::<String>("LOG_FORMAT")?.as_deref() {
        None | Some("json") => registry
            .with(fmt::layer().json().flatten_event(true))
            .init(),
        Some("pretty") => registry.with(fmt::layer()).init(),
        Some(other) => bail!("LOG_FORMAT is not valid: expected json or pretty, found {other:?}"),
    }
    Ok(())
}
