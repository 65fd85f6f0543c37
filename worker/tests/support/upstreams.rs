//! Simulated upstreams.

use std::{net::SocketAddr, time::Duration};

use dezky_shared::upstream::Upstream;
use dezky_sim::{
    authentik::AuthentikSim, dns::DnsSim, issuer::APPLICATIONS, ocis::OcisSim, server::Server,
    stalwart::StalwartSim, stripe::StripeSim,
};
use dezky_upstreams::clients::{
    authentik::{AuthentikConfig, DEFAULT_SIGNING_KEY},
    ocis::{AppTokenLogin, OcisConfig, OcisLogin},
    simulated,
    stalwart::{Login, StalwartConfig},
    stripe::StripeConfig,
};
use dezky_worker::{
    context::ClientsConfig,
    dns::{DnsConfig, ResolverAddress, Transport},
};

/// The simulators.
pub(crate) struct Upstreams {
    pub(crate) authentik: AuthentikSim,
    pub(crate) stalwart: StalwartSim,
    pub(crate) ocis: OcisSim,
    pub(crate) stripe: StripeSim,
    pub(crate) dns: DnsSim,
}

impl Upstreams {
    pub(crate) async fn start() -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let stalwart = StalwartSim::start(any_port).await.unwrap();
        stalwart.instant_dkim(true);
        Self {
            authentik: AuthentikSim::start(any_port).await.unwrap(),
            stalwart,
            ocis: OcisSim::start(any_port).await.unwrap(),
            stripe: StripeSim::start(any_port).await.unwrap(),
            dns: DnsSim::start(any_port).await.unwrap(),
        }
    }

    /// The HTTP servers.
    pub(crate) fn servers(&self) -> [(Upstream, &Server); 4] {
        [
            (Upstream::Authentik, &self.authentik.server),
            (Upstream::Stalwart, &self.stalwart.server),
            (Upstream::Ocis, &self.ocis.server),
            (Upstream::Stripe, &self.stripe.server),
        ]
    }

    pub(crate) fn config(&self) -> ClientsConfig {
        let timeout = Duration::from_secs(2);
        ClientsConfig {
            authentik: Some(AuthentikConfig {
                api_url: self.authentik.api_url(),
                public_url: None,
                signing_key: DEFAULT_SIGNING_KEY.to_owned(),
                api_token: AuthentikSim::TOKEN.into(),
                timeout,
            }),
            stalwart: Some(StalwartConfig {
                base_url: self.stalwart.server.url.clone(),
                login: Login::ApiKey(StalwartSim::TOKEN.into()),
                timeout,
            }),
            ocis: Some(OcisConfig {
                base_url: self.ocis.server.url.clone(),
                login: OcisLogin::AppToken(AppTokenLogin {
                    user: OcisSim::USER.to_owned(),
                    password: OcisSim::PASSWORD.into(),
                }),
                timeout,
                refusal_grace: Duration::from_millis(200),
            }),
            stripe: Some(StripeConfig {
                base_url: self.stripe.server.url.clone(),
                secret_key: simulated::STRIPE_SECRET_KEY.into(),
                timeout,
                automatic_tax: false,
            }),
            dns: Some(DnsConfig {
                resolvers: vec![ResolverAddress {
                    name: "simulated".to_owned(),
                    address: self.dns.address,
                    transport: Transport::Plain,
                }],
                timeout,
            }),
            spf_include: None,
            applications: APPLICATIONS.map(str::to_owned).into(),
        }
    }
}
