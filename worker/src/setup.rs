//! Setup checks of all upstreams, and the command `dezky-worker check`, which prints them.
//!
//! The checks only read, and each upstream has a time limit, so that the command ends.

use std::{
    io::{self, Write},
    time::Duration,
};

use dezky_shared::{
    platform::clock, queue::ready_set::ReadySet, readiness::Readiness, store::Store,
    upstream::Upstream,
};
use dezky_upstreams::clients::setup::{SetupCheck, SetupOutcome};
use futures::future::{OptionFuture, join_all};
use tokio::time::timeout;

use crate::{
    config::Config,
    context::Clients,
    dns::{Code, Verifier},
};

/// Time limit for all checks of one upstream or store.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// Tolerated difference between our clock and MongoDB's.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);

/// Runs the checks of every enabled upstream.
pub async fn check_upstreams(clients: &Clients) -> Vec<(Upstream, Vec<SetupCheck>)> {
    let check = async |upstream| Some((upstream, check_upstream(clients, upstream).await?));
    join_all(Upstream::CALLED.map(check))
        .await
        .into_iter()
        .flatten()
        .collect()
}

/// Runs the checks of one upstream; `None` if its integration is disabled.
async fn check_upstream(clients: &Clients, upstream: Upstream) -> Option<Vec<SetupCheck>> {
    let checks = async {
        match upstream {
            Upstream::Authentik => {
                let authentik = clients.authentik.as_ref()?;
                Some(authentik.check_setup(&clients.applications).await)
            }
            Upstream::Stalwart => Some(clients.stalwart.as_ref()?.check_setup().await),
            Upstream::Ocis => Some(clients.ocis.as_ref()?.check_setup().await),
            Upstream::Stripe => Some(clients.stripe.as_ref()?.check_setup().await),
        }
    };
    timeout(TIME_LIMIT, checks)
        .await
        .unwrap_or_else(|_| Some(vec![too_slow()]))
}

fn too_slow() -> SetupCheck {
    let reason = format!("no result in {} s; check again later", TIME_LIMIT.as_secs());
    SetupCheck::unknown("time", reason)
}

/// Checks the stores, the upstreams and the resolvers, and prints one line for each check. Returns whether none failed.
pub async fn check_all(
    config: &Config,
    clients: &Clients,
    out: &mut impl Write,
) -> io::Result<bool> {
    let check_dns = |dns| check_dns(dns, clients.spf_include.as_deref());
    let resolvers: OptionFuture<_> = clients.dns.as_ref().map(check_dns).into();
    let (stores, upstreams, resolvers) =
        tokio::join!(check_stores(config), check_upstreams(clients), resolvers);
    let upstreams = Upstream::CALLED.into_iter().flat_map(|upstream| {
        let checks = upstreams.iter().find(|(of, _)| *of == upstream);
        let checks = match checks {
            Some((_, checks)) => checks.clone(),
            None if upstream.is_provisioned() => {
                vec![SetupCheck::ok("integration", "switched off")]
            }
            None => Vec::new(),
        };
        checks
            .into_iter()
            .map(move |check| (upstream.name(), check))
    });
    let all = stores.into_iter().chain(upstreams);
    print(all.chain(resolvers.unwrap_or_default()), out)
}

/// Prints the checks and their totals. Returns whether none failed.
fn print(
    checks: impl Iterator<Item = (&'static str, SetupCheck)>,
    out: &mut impl Write,
) -> io::Result<bool> {
    let (mut ok, mut failed, mut unknown) = (0, 0, 0);
    for (subject, SetupCheck { name, outcome }) in checks {
        let (state, count, text) = match &outcome {
            SetupOutcome::Ok(text) => ("ok", &mut ok, text),
            SetupOutcome::Failed(text) => ("failed", &mut failed, text),
            SetupOutcome::Unknown(text) => ("unknown", &mut unknown, text),
        };
        *count += 1;
        writeln!(out, "{state:<8} {subject:<10} {name}: {text}")?;
    }
    writeln!(out, "{ok} ok, {failed} failed, {unknown} unknown")?;
    Ok(failed == 0)
}

async fn check_stores(config: &Config) -> Vec<(&'static str, SetupCheck)> {
    let check = async {
        // The driver's error may contain addresses.
        let Ok(store) = Store::connect(&config.mongodb).await else {
            let problem = "no connection; check MONGODB_URI and whether it runs";
            return vec![("mongodb", SetupCheck::failed("connection", problem))];
        };
        let ready = match ReadySet::new(&config.redis) {
            Ok(ready) => ready,
            Err(error) => {
                return vec![("redis", SetupCheck::failed("connection", error.to_string()))];
            }
        };
        let readiness = Readiness::check(&store, &ready).await;
        let clock = check_store_clock(&store);
        store.close().await;
        let of = |outcome: anyhow::Result<()>| match outcome {
            Ok(()) => SetupCheck::ok("connection", "ready"),
            Err(error) => SetupCheck::failed("connection", format!("{error:#}")),
        };
        vec![
            ("mongodb", of(readiness.mongodb)),
            ("mongodb", clock),
            ("redis", of(readiness.redis)),
        ]
    };
    timeout(TIME_LIMIT, check)
        .await
        .unwrap_or_else(|_| vec![("mongodb", too_slow())])
}

fn check_store_clock(store: &Store) -> SetupCheck {
    let ours = clock::now().timestamp_millis();
    let difference = Duration::from_millis(store.now().timestamp_millis().abs_diff(ours));
    if difference <= CLOCK_TOLERANCE {
        return SetupCheck::ok(
            "clock",
            format!("within {} s of ours", CLOCK_TOLERANCE.as_secs()),
        );
    }
    SetupCheck::failed(
        "clock",
        format!(
            "{} s from ours; synchronise both machines by NTP",
            difference.as_secs()
        ),
    )
}

async fn check_dns(dns: &Verifier, spf_include: Option<&str>) -> Vec<(&'static str, SetupCheck)> {
    let checks = dns.resolvers().map(async |resolver| {
        let include: OptionFuture<_> = spf_include
            .map(|include| check_spf_include(dns, resolver, include))
            .into();
        let (resolver, include) = tokio::join!(check_resolver(dns, resolver), include);
        [Some(resolver), include]
    });
    let checks = join_all(checks).await.into_iter().flatten().flatten();
    checks.map(|check| ("dns", check)).collect()
}

async fn check_resolver(dns: &Verifier, resolver: &str) -> SetupCheck {
    let name = format!("resolver {resolver}");
    match timeout(TIME_LIMIT, dns.probe(resolver)).await {
        Ok(Ok(())) => SetupCheck::ok(&name, "answers"),
        Ok(Err(error)) => SetupCheck::failed(&name, format!("{error}; check DNS_RESOLVERS")),
        Err(_) => SetupCheck::failed(&name, "no answer; check DNS_RESOLVERS"),
    }
}

async fn check_spf_include(dns: &Verifier, resolver: &str, include: &str) -> SetupCheck {
    let name = format!("MAIL_SPF_INCLUDE at {resolver}");
    match timeout(TIME_LIMIT, dns.probe_spf_include(resolver, include)).await {
        Ok(Ok(())) => SetupCheck::ok(&name, include),
        Ok(Err(Code::SpfTemperror)) | Err(_) => {
            let reason = format!("{include} could not be looked up; check again later");
            SetupCheck::unknown(&name, reason)
        }
        Ok(Err(code)) => SetupCheck::failed(
            &name,
            format!(
                "{include}: {}; publish one SPF record there that lists the sending addresses",
                code.name()
            ),
        ),
    }
}
