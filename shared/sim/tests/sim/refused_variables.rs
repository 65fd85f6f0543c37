//! Variables that cannot work stop the process at the start, with their name in the message.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use dezky_sim::isolated_stores::binary;

use crate::deployment::variables::read_below;

/// Time limit for a process to refuse its configuration.
const DEADLINE: Duration = Duration::from_secs(20);

/// Variables with which both processes start. Nothing is reachable.
const COMMON: [(&str, &str); 2] = [
    ("MONGODB_URI", "mongodb://127.0.0.1:1/?replicaSet=dezky"),
    ("REDIS_URL", "redis://127.0.0.1:1"),
];

const API: [(&str, &str); 3] = [
    ("API_LISTEN", "127.0.0.1:0"),
    ("API_METRICS_LISTEN", "127.0.0.1:0"),
    (
        "AUTHENTIK_ISSUERS",
        "https://auth.example.com/application/o/dezky-portal/",
    ),
];

const WORKER: [(&str, &str); 8] = [
    ("WORKER_METRICS_LISTEN", "127.0.0.1:0"),
    ("AUTHENTIK_API_URL", "https://auth.example.com/api/v3"),
    ("AUTHENTIK_API_TOKEN", "a-token"),
    ("STALWART_API_URL", "https://mail.example.com"),
    ("STALWART_API_TOKEN", "API_a-key"),
    ("OCIS_API_URL", "https://files.example.com"),
    ("OCIS_API_USER", "svc-dezky"),
    ("OCIS_API_PASSWORD", "an-app-token"),
];

/// The error with which a process refuses to start; `None` if it runs.
fn refusal(name: &str, own: &[(&str, &str)], changed: &[(&str, &str)]) -> Option<String> {
    let mut variables = BTreeMap::from(COMMON);
    variables.extend(own.iter().chain(changed).copied());
    let mut process = Command::new(binary(name).unwrap())
        .env_clear()
        .envs(variables)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let status = loop {
        match process.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if start.elapsed() > DEADLINE => break None,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let Some(status) = status else {
        process.kill().unwrap();
        process.wait().unwrap();
        return None;
    };
    assert!(
        !status.success(),
        "{name} {changed:?} ended without an error"
    );
    let mut error = String::new();
    let mut stderr = process.stderr.take().unwrap();
    stderr.read_to_string(&mut error).unwrap();
    Some(error)
}

/// Asserts that each value is refused, by the name of its variable and without a secret.
fn assert_refused(name: &str, own: &[(&str, &str)], values: &[(&str, &str)]) {
    for &(variable, value) in values {
        let error = refusal(name, own, &[(variable, value)]);
        let error = error.unwrap_or_else(|| panic!("{name} starts with {variable}={value}"));
        assert!(error.contains(variable), "{variable}={value}: {error}");
        assert!(!error.contains("hunter2"), "{variable}: {error}");
    }
}

const OF_BOTH: [(&str, &str); 20] = [
    ("MONGODB_URI", "mongodb://user:hunter2@"),
    (
        "MONGODB_URI",
        "mongodb://127.0.0.1:1/?readPreference=secondary",
    ),
    ("MONGODB_DATABASE", "admin"),
    ("MONGODB_DATABASE", "a b"),
    ("REDIS_URL", "http://:hunter2@127.0.0.1:1"),
    ("REDIS_PREFIX", "a b"),
    ("RUST_LOG", "dezky=verbose"),
    ("LOG_FORMAT", "xml"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "http://collector:4318/v1/traces",
    ),
    ("EXTRA_CA_CERTS", "/dev/null"),
    ("EXTRA_CA_CERTS", "/nonexistent"),
    ("SEALING_KEYS", "2026:hunter2"),
    ("SEALING_KEYS", "hunter2"),
    ("BILLING_LEGAL_ENTITY", "dezky/1"),
    ("BILLING_LEGAL_COUNTRY", "Denmark"),
    ("BILLING_NET_DAYS", "366"),
    ("BILLING_PAST_DUE_GRACE_DAYS", "-1"),
    ("BILLING_BEFORE_FIRST_CARD", "backdated"),
    ("BILLING_FREE_TO_PAID", "Now"),
];

const OF_API: &[(&str, &str)] = &[
    ("API_LISTEN", "3001"),
    ("API_LISTEN", "192.0.2.1.example.invalid:3001"),
    ("API_METRICS_LISTEN", "127.0.0.1"),
    ("CORS_ALLOWED_ORIGINS", "https://portal.dk/"),
    ("CORS_ALLOWED_ORIGINS", "https://portal.dk,*"),
    ("CORS_ALLOWED_ORIGINS", "https://user:hunter2@portal.dk"),
    ("CORS_ALLOWED_ORIGINS", "\"https://portal.dk\""),
    ("TRUSTED_PROXIES", "10.0.0.0/33"),
    ("TRUSTED_PROXIES", "0.0.0.0/0"),
    ("AUTHENTIK_ISSUERS", ""),
    (
        "AUTHENTIK_ISSUERS",
        "https://auth.example.com/application/o/portal",
    ),
    ("AUTHENTIK_ISSUERS", "https://auth.example.com/?a=/"),
    (
        "AUTHENTIK_JWKS_URLS",
        "https://user:hunter2@auth.example.com/jwks/",
    ),
    (
        "AUTHENTIK_JWKS_URLS",
        "https://a.example.com/,https://b.example.com/",
    ),
    ("AUTHENTIK_AUDIENCE", "'dezky-portal'"),
    ("AUTHENTIK_AUDIENCE", "one,two,three"),
    (
        "AUTHENTIK_ADMIN_GROUPS",
        "\"dezky-platform-admins,authentik Admins\"",
    ),
    ("CONSOLE_URL", "http://console.example.com"),
    ("CONSOLE_URL", "https://console.example.com/console"),
    ("CONSOLE_URL", "https://console.example.com"),
    ("CONSOLE_CLIENT_SECRET", "hunter2"),
    ("API_RATE_PER_CALLER", "-1"),
    ("API_RATE_PER_ADDRESS", "1000001"),
    ("API_FAILED_SIGN_INS_PER_ADDRESS", "0.5"),
    ("API_CREDENTIAL_CHANGES_PER_CALLER", "-1"),
    ("STRIPE_WEBHOOKS_PER_SECOND", "-1"),
    ("STRIPE_PUBLISHABLE_KEY", "sk_test_hunter2"),
    ("STRIPE_WEBHOOK_SECRETS", "whsec_hunter2"),
    ("API_MAX_CONNECTIONS_PER_ADDRESS", "10000"),
    ("API_RESPONSE_MEMORY_MIB", "31"),
    ("TENANT_PURGE_AFTER", "30"),
    ("TENANT_PURGE_AFTER", "4000000000d"),
    ("MEMBER_PURGE_AFTER", "7"),
    ("DOMAINS_ALLOW_SPECIAL_USE", "yes"),
    ("SELF_SERVICE_TENANTS", "yes"),
    ("DOMAINS_OWN", "not a domain"),
    ("AUTHENTIK_PUBLIC_URL", "auth.example.com"),
    ("API_MAX_CONNECTIONS", "0"),
];

const OF_WORKER: &[(&str, &str)] = &[
    ("WORKER_METRICS_LISTEN", "9465"),
    ("WORKER_SLOTS_PROVISIONING", "0"),
    ("WORKER_SLOTS_DNS", "1001"),
    ("WORKER_LEASE_SECONDS", "0"),
    ("WORKER_LEASE_SECONDS", "86400"),
    ("WORKER_DRAIN_SECONDS", "-1"),
    ("WORKER_DRAIN_SECONDS", "1e30"),
    ("AUDIT_KEEP_DAYS", "0"),
    ("AUTHENTIK_PROVISIONING_ENABLED", "1"),
    ("AUTHENTIK_API_URL", "auth.example.com/api/v3"),
    ("AUTHENTIK_API_URL", "https://auth.example.com"),
    (
        "AUTHENTIK_API_URL",
        "https://user:hunter2@auth.example.com/api/v3",
    ),
    ("AUTHENTIK_API_TOKEN", ""),
    ("AUTHENTIK_API_TOKEN", "Bearer hunter2"),
    ("AUTHENTIK_API_TOKEN", "hunter2\nhunter2"),
    ("AUTHENTIK_API_TOKEN", "sim-authentik-token"),
    ("AUTHENTIK_PUBLIC_URL", "auth.example.com"),
    ("AUTHENTIK_PUBLIC_URL", "https://auth.example.com/?next=/"),
    ("AUTHENTIK_TIMEOUT_SECONDS", "0"),
    ("AUTHENTIK_STEPS_PER_SECOND", "NaN"),
    ("AUTHENTIK_STEPS_BURST", "0"),
    ("STALWART_API_URL", "https://mail.example.com/jmap"),
    ("STALWART_API_TOKEN", "hunter2 hunter2"),
    ("STALWART_API_TOKEN", "API_sim-stalwart"),
    ("STALWART_TIMEOUT_SECONDS", "inf"),
    ("MAIL_SPF_INCLUDE", "include:spf.example.com"),
    ("OCIS_API_URL", "https://files.example.com?a=b"),
    ("OCIS_API_USER", "svc:dezky"),
    ("OCIS_API_PASSWORD", "sim-ocis-app-token"),
    ("OCIS_OIDC_PASSWORD", "hunter2"),
    ("OCIS_TIMEOUT_SECONDS", "1000"),
    ("DNS_RESOLVERS", "one.one.one.one"),
    ("DNS_RESOLVERS", "1.1.1.1:53,1.1.1.1:53"),
    ("DNS_TIMEOUT_SECONDS", "61"),
    ("BILLING_STRIPE_ENABLED", "true"),
    ("STRIPE_STEPS_PER_SECOND", "0"),
    ("STRIPE_STEPS_BURST", "0"),
    ("STALWART_PROVISIONING_ENABLED", "yes"),
    ("STALWART_STEPS_PER_SECOND", "-1"),
    ("STALWART_STEPS_BURST", "0"),
    ("OCIS_PROVISIONING_ENABLED", "yes"),
    ("OCIS_STEPS_PER_SECOND", "inf"),
    ("OCIS_STEPS_BURST", "0.5"),
    ("OCIS_OIDC_TOKEN_URL", "idp.example.com/token"),
    ("OCIS_OIDC_CLIENT_ID", "dezky"),
    ("OCIS_OIDC_CLIENT_SECRET", "hunter2"),
    ("OCIS_OIDC_USERNAME", "svc-dezky"),
    ("WORKER_SLOTS_BILLING", "-1"),
    ("WORKER_SLOTS_WEBHOOKS", "many"),
    ("WORKER_SLOTS_MAINTENANCE", "0"),
];

/// Variables of a worker that has no token for the mail server.
const OF_WORKER_WITHOUT_TOKEN: &[(&str, &str)] = &[
    ("STALWART_API_USER", ""),
    ("STALWART_API_USER", "svc:dezky"),
    ("STALWART_API_PASSWORD", ""),
];

/// Variables of a worker with Stripe.
const OF_STRIPE_KEY: &[(&str, &str)] = &[
    ("STRIPE_SECRET_KEY", ""),
    ("STRIPE_SECRET_KEY", "pk_test_hunter2"),
    ("STRIPE_SECRET_KEY", "sk_test_hunter2 hunter2"),
    ("STRIPE_SECRET_KEY", "sk_test_sim_dezky"),
];

/// Variables of a worker with Stripe and its key.
const OF_STRIPE: &[(&str, &str)] = &[
    ("STRIPE_API_URL", "https://api.stripe.com/v1"),
    ("STRIPE_TIMEOUT_SECONDS", "0"),
    ("STRIPE_AUTOMATIC_TAX", "yes"),
];

/// Variables that can have any text.
const ANY_TEXT: [&str; 4] = [
    "AUTHENTIK_SIGNING_KEY_NAME",
    "OCIS_OIDC_SCOPE",
    "OTEL_SERVICE_NAME",
    "WORKER_NAME",
];

#[test]
fn every_variable_of_a_process_is_refused_or_can_have_any_text() {
    let tried = OF_BOTH
        .iter()
        .chain(OF_API)
        .chain(OF_WORKER)
        .chain(OF_WORKER_WITHOUT_TOKEN)
        .chain(OF_STRIPE_KEY)
        .chain(OF_STRIPE);
    let mut covered: BTreeSet<&str> = tried.map(|(variable, _)| *variable).collect();
    covered.extend(ANY_TEXT);
    let sources = [
        "api/src",
        "worker/src",
        "shared/src",
        "shared/upstreams/src",
    ];
    let read: BTreeSet<String> = sources.into_iter().flat_map(read_below).collect();

    let missing: Vec<_> = read
        .iter()
        .filter(|variable| !covered.contains(variable.as_str()))
        .collect();

    assert!(read.len() > 40, "{read:?}");
    assert!(missing.is_empty(), "add a refused value of: {missing:?}");
}

#[test]
fn the_api_refuses_variables_that_cannot_work() {
    assert_refused("dezky-api", &API, &OF_BOTH);
    assert_refused("dezky-api", &API, OF_API);
    let same = [
        ("API_LISTEN", "127.0.0.1:9464"),
        ("API_METRICS_LISTEN", "127.0.0.1:9464"),
    ];
    let error = refusal("dezky-api", &API, &same).unwrap();
    assert!(error.contains("API_METRICS_LISTEN are the same"), "{error}");
}

#[test]
fn the_worker_refuses_variables_that_cannot_work() {
    assert_refused("dezky-worker", &WORKER, &OF_BOTH);
    assert_refused("dezky-worker", &WORKER, OF_WORKER);
    let mut without_token = Vec::from(WORKER);
    without_token.retain(|(variable, _)| *variable != "STALWART_API_TOKEN");
    let login = [
        ("STALWART_API_USER", "svc-dezky"),
        ("STALWART_API_PASSWORD", "a-password"),
    ];
    without_token.extend(login);
    assert_refused("dezky-worker", &without_token, OF_WORKER_WITHOUT_TOKEN);
    let mut with_stripe = WORKER.to_vec();
    with_stripe.push(("BILLING_STRIPE_ENABLED", "true"));
    assert_refused("dezky-worker", &with_stripe, OF_STRIPE_KEY);
    with_stripe.push(("STRIPE_SECRET_KEY", "sk_test_a-key"));
    assert_refused("dezky-worker", &with_stripe, OF_STRIPE);
}
