//! Variables that cannot work stop the process at the start, with their name in the message.

use std::{
    collections::BTreeMap,
    io::Read as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use dezky_sim::isolated_stores::binary;

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

const OF_BOTH: [(&str, &str); 14] = [
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
];

#[test]
fn the_api_refuses_variables_that_cannot_work() {
    assert_refused("dezky-api", &API, &OF_BOTH);
    assert_refused(
        "dezky-api",
        &API,
        &[
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
            (
                "AUTHENTIK_ADMIN_GROUPS",
                "\"dezky-platform-admins,authentik Admins\"",
            ),
            ("API_RATE_PER_CALLER", "-1"),
            ("API_RATE_PER_ADDRESS", "1000001"),
            ("API_FAILED_SIGN_INS_PER_ADDRESS", "0.5"),
            ("TENANT_PURGE_AFTER", "30"),
            ("TENANT_PURGE_AFTER", "4000000000d"),
            ("DOMAINS_ALLOW_SPECIAL_USE", "yes"),
            ("DOMAINS_OWN", "not a domain"),
        ],
    );
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
    assert_refused(
        "dezky-worker",
        &WORKER,
        &[
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
        ],
    );
}
