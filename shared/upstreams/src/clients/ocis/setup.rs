//! Setup checks of oCIS: its release, and the role of our account.

use http::Method;
use serde::Deserialize;

use super::{Ocis, error::ResponseExt as _};
use crate::clients::{
    ClientError, Operation,
    setup::{SetupCheck, check_clock},
};

/// Oldest supported major version of oCIS.
const OLDEST: u32 = 7;

impl Ocis {
    /// Checks the premises.
    pub async fn check_setup(&self) -> Vec<SetupCheck> {
        let mut checks = self.check_status().await;
        match self.check().await {
            Ok(()) => checks.push(SetupCheck::ok("credentials", "accepted")),
            Err(error) => {
                const REMEDY: &str = "create an app token for OCIS_API_PASSWORD, or check the account that the OIDC token names";
                checks.push(SetupCheck::credentials(&error, REMEDY));
                return checks;
            }
        }
        checks.push(match self.require_full_view().await {
            Ok(()) => SetupCheck::ok("role", "sees and manages every space"),
            Err(error @ ClientError::Permission(_)) => {
                SetupCheck::failed("role", format!("{error}"))
            }
            Err(error) => SetupCheck::of_error("role", &error, "check again later"),
        });
        checks
    }

    /// Release and clock. The endpoint needs no credentials.
    async fn check_status(&self) -> Vec<SetupCheck> {
        const NAME: &str = "version";
        let request = self.http.request(Method::GET, "/status.php");
        let response = match self.http.send(Operation::read("get_status"), request).await {
            Ok(response) => response.error_for_status(),
            Err(error) => Err(error),
        };
        match response.and_then(|response| Ok((response.json::<Status>()?, check_clock(&response))))
        {
            Ok((status, clock)) => vec![status.check(), clock],
            Err(error) => vec![SetupCheck::of_error(NAME, &error, "check OCIS_API_URL")],
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    maintenance: bool,
    #[serde(default)]
    needs_db_upgrade: bool,
    #[serde(default)]
    product: String,
    #[serde(default)]
    productversion: String,
}

impl Status {
    fn check(&self) -> SetupCheck {
        const NAME: &str = "version";
        let found = format!("{} {}", self.product, self.productversion);
        if self.maintenance || self.needs_db_upgrade {
            return SetupCheck::failed(NAME, format!("{found} is under maintenance; complete it"));
        }
        // A fork with version numbers of its own.
        if self.product == "OpenCloud" {
            return SetupCheck::ok(NAME, found);
        }
        let major = self.productversion.split('.').next().unwrap_or_default();
        match major.parse::<u32>() {
            Ok(major) if major >= OLDEST => SetupCheck::ok(NAME, found),
            Ok(_) => SetupCheck::failed(NAME, format!("{found}; update to oCIS {OLDEST} or later")),
            Err(_) => SetupCheck::unknown(NAME, format!("{found} is no release")),
        }
    }
}
