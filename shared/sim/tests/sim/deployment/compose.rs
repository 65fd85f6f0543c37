//! Completeness and consistency of `docker-compose.yml`.

use std::{collections::BTreeSet, time::Duration};

use dezky_sim::workspace;

use super::{
    compose_file::{self, Compose},
    environment, manifest, read, variables,
};

/// Maximum time that the worker and the api take to stop.
const DRAIN: Duration = Duration::from_secs(25);

#[test]
fn each_profile_has_its_services() {
    let compose = Compose::open();
    let of = |profile: Option<&str>| -> Vec<&str> {
        let services = compose.services.iter();
        services
            .filter(|(_, service)| service.profiles.first().map(String::as_str) == profile)
            .map(|(name, _)| name.as_str())
            .collect()
    };

    assert_eq!(of(None), ["api", "mongodb", "redis", "worker"]);
    assert_eq!(of(Some("sim")), ["sim"]);
    assert_eq!(
        of(Some("upstreams")),
        [
            "authentik",
            "authentik-postgresql",
            "authentik-worker",
            "ocis",
            "stalwart"
        ]
    );
    for (name, service) in &compose.services {
        assert!(service.profiles.len() <= 1, "{name}");
        assert_eq!(service.restart, "unless-stopped", "{name}");
    }
}

#[test]
fn every_variable_that_compose_uses_is_in_the_example() {
    let mut used = compose_file::interpolated();
    used.extend(Compose::open().passed_on());

    let missing: Vec<_> = used.difference(&environment::names()).cloned().collect();

    assert!(missing.is_empty(), "not in .env.example: {missing:?}");
}

#[test]
fn the_api_and_the_worker_get_exactly_the_variables_they_read() {
    let compose = Compose::open();
    let api = compose.services["api"].environment.passed_on();
    let worker = compose.services["worker"].environment.passed_on();
    let clients = variables::read_below("shared/upstreams/src");
    let of_both = variables::read_below("shared/src");

    let missing_in_api = &(&variables::read_below("api/src") | &of_both) - &api;
    let missing_in_worker =
        &(&(&variables::read_below("worker/src") | &of_both) | &clients) - &worker;
    let unread = &(&api | &worker) - &variables::read_anywhere();

    assert!(missing_in_api.is_empty(), "{missing_in_api:?}");
    assert!(missing_in_worker.is_empty(), "{missing_in_worker:?}");
    assert!(unread.is_empty(), "{unread:?}");
}

#[test]
fn declared_and_used_volumes_and_networks_are_identical() {
    let compose = Compose::open();
    let services = compose.services.values();
    let volumes: BTreeSet<_> = services
        .clone()
        .flat_map(|service| &service.volumes)
        .filter_map(|volume| volume.split(':').next())
        .filter(|volume| !volume.starts_with(['.', '/', '$']))
        .map(str::to_owned)
        .collect();
    let networks: BTreeSet<_> = services
        .flat_map(|service| service.networks.names())
        .collect();

    assert_eq!(volumes, compose.volumes.into_keys().collect());
    assert_eq!(networks, compose.networks.into_keys().collect());
    for (name, service) in &compose.services {
        let names = service.networks.names();
        assert!(!names.is_empty(), "{name} is in the default network");
    }
}

#[test]
fn images_have_the_workspaces_version_or_a_pinned_one() {
    let version = manifest("version");

    for (name, service) in Compose::open().services {
        let (_, tag) = service
            .image
            .rsplit_once(':')
            .unwrap_or_else(|| panic!("{name} has an image without a tag: {}", service.image));
        if let Some(build) = service.build {
            assert_eq!(tag, version, "{name}");
            assert_eq!(build.context, ".", "{name}");
            let dockerfile = workspace::root().join(build.dockerfile);
            assert!(dockerfile.is_file(), "{}", dockerfile.display());
        } else {
            assert!(
                tag.contains(|character: char| character.is_ascii_digit()),
                "{name} has no version: {}",
                service.image
            );
        }
        assert_ne!(tag, "latest", "{name}");
    }
}

#[test]
fn every_service_has_a_health_check() {
    for (name, service) in Compose::open().services {
        let dockerfile = service.build.map(|build| read(&build.dockerfile));
        let in_its_image =
            dockerfile.is_some_and(|dockerfile| dockerfile.contains("\nHEALTHCHECK --"));

        assert!(service.healthcheck.is_some() || in_its_image, "{name}");
    }
}

#[test]
fn every_dependency_exists_and_has_a_health_check() {
    let compose = Compose::open();

    for (name, service) in &compose.services {
        for (other, dependency) in &service.depends_on {
            let other = &compose.services[other];
            // Otherwise the one could start without the other.
            assert!(other.profiles.is_empty() || other.profiles == service.profiles);
            if dependency.condition == "service_healthy" {
                assert!(other.healthcheck.is_some(), "{name}");
            }
        }
    }
    for name in ["api", "worker"] {
        let mongodb = &compose.services[name].depends_on["mongodb"];
        assert_eq!(mongodb.condition, "service_healthy", "{name}");
    }
}

#[test]
fn mongodb_initiates_a_replica_set_with_a_transaction_limit_of_five_seconds() {
    let mongodb = &Compose::open().services["mongodb"];
    let command = mongodb.command.words().concat();
    let initialised = mongodb.healthcheck.as_ref().unwrap().test.concat();

    assert!(command.contains("--setParameter=transactionLifetimeLimitSeconds=5"));
    assert!(command.contains("--setParameter=minSnapshotHistoryWindowInSeconds=5"));
    assert!(command.contains("--replSet=dezky"));
    assert!(initialised.contains(r#"rs.initiate({ _id: "dezky""#));
    assert!(initialised.contains("isWritablePrimary"));
    assert!(read(".env.example").contains("replicaSet=dezky"));
}

#[test]
fn the_stores_require_a_password() {
    let compose = Compose::open();
    let [mongodb, redis] = ["mongodb", "redis"].map(|store| &compose.services[store]);
    let example = read(".env.example");

    assert!(mongodb.command.words().concat().contains("--keyFile="));
    let variables = mongodb.environment.set();
    assert!(variables["MONGO_INITDB_ROOT_PASSWORD"].starts_with("${MONGODB_ROOT_PASSWORD:?"));
    assert!(variables["DEZKY_PASSWORD"].starts_with("${MONGODB_PASSWORD:?"));
    let scripts = mongodb.mounts()["/docker-entrypoint-initdb.d"];
    let script = read(&format!(
        "{}/create-user.js",
        scripts.trim_start_matches("./")
    ));
    assert!(script.contains("process.env.DEZKY_PASSWORD"));
    assert!(example.contains("MONGODB_URI=mongodb://dezky:${MONGODB_PASSWORD}@mongodb:"));

    assert!(redis.command.words().concat().contains("requirepass"));
    let variables = redis.environment.set();
    assert!(variables["REDISCLI_AUTH"].starts_with("${REDIS_PASSWORD:?"));
    assert!(example.contains("REDIS_URL=redis://:${REDIS_PASSWORD}@redis:"));
}

#[test]
fn every_service_is_limited_and_without_privileges() {
    for (name, service) in Compose::open().services {
        assert!(service.read_only, "{name}");
        assert_eq!(service.cap_drop, ["ALL"], "{name}");
        assert_eq!(service.security_opt, ["no-new-privileges:true"], "{name}");
        assert!(service.mem_limit.is_some(), "{name}");
        assert!(service.pids_limit.is_some(), "{name}");
        assert!(service.ulimits.contains_key("nofile"), "{name}");
        let capabilities: &[&str] = match name.as_str() {
            "stalwart" => &["NET_BIND_SERVICE"],
            _ => &[],
        };
        assert_eq!(service.cap_add, capabilities, "{name}");
    }
}

#[test]
fn metrics_are_reachable_in_a_network_of_their_own_only() {
    let compose = Compose::open();
    let example = read(".env.example");

    for (name, variable) in [
        ("api", "API_METRICS_LISTEN"),
        ("worker", "WORKER_METRICS_LISTEN"),
    ] {
        let line = example
            .lines()
            .find_map(|line| line.strip_prefix(variable)?.strip_prefix('='));
        let (host, _) = line.unwrap().rsplit_once(':').unwrap();
        let networks = compose.services[name].networks.with_alias(host);
        assert_eq!(networks, ["metrics"], "{name}");
    }
    let metrics = compose.networks["metrics"].as_ref().unwrap();
    assert!(metrics.internal);
    for (name, service) in &compose.services {
        let joined = service.networks.names().contains("metrics");
        assert_eq!(joined, ["api", "worker"].contains(&name.as_str()), "{name}");
    }
}

#[test]
fn traefik_routes_the_api_by_its_host_name() {
    let compose = Compose::open();
    let api = &compose.services["api"];
    let label = |name: &str| api.labels[&format!("traefik.{name}")].as_str();

    assert_eq!(label("enable"), "true");
    assert_eq!(
        label("http.routers.dezky-api.rule"),
        "Host(`${API_HOST:-api.dezky.local}`)"
    );
    assert_eq!(
        label("http.services.dezky-api.loadbalancer.server.port"),
        "3001"
    );
    // Traefik knows the network by its name on the host.
    let network = compose.networks["platform"].as_ref().unwrap();
    assert_eq!(network.name.as_deref(), Some(label("docker.network")));
}

#[test]
fn additional_certificates_are_mounted_where_the_example_says() {
    let compose = Compose::open();
    let target = "/etc/dezky/extra-ca.pem";

    for name in ["api", "worker"] {
        let mounts = compose.services[name].mounts();
        assert_eq!(
            mounts[target], "${EXTRA_CA_CERTS_FILE:-/dev/null}",
            "{name}"
        );
    }
    assert!(read(".env.example").contains(target));
}

#[test]
fn mounted_directories_exist() {
    for (name, service) in Compose::open().services {
        let mounts = service.mounts();
        for source in mounts.values().filter(|source| source.starts_with('.')) {
            assert!(workspace::root().join(source).exists(), "{name}: {source}");
        }
    }
}

#[test]
fn the_api_and_the_worker_are_not_killed_while_they_drain() {
    let compose = Compose::open();

    for name in ["api", "worker"] {
        let grace = compose.services[name].stop_grace_period.as_deref();
        let grace = grace.and_then(|grace| grace.strip_suffix('s')?.parse().ok());
        let grace = Duration::from_secs(grace.unwrap_or_default());
        assert!(
            grace > DRAIN,
            "{name} has {grace:?}, written as seconds: `30s`"
        );
    }
}

#[test]
fn the_api_has_the_network_alias_that_the_portals_use() {
    let api = &Compose::open().services["api"];

    assert!(api.networks.aliases().contains(&"platform-api".to_owned()));
    assert_eq!(api.ports, ["127.0.0.1:3001:3001"]);
    assert!(api.image.starts_with("dezky-platform-api:"));
}

#[test]
fn stores_are_not_published_and_other_ports_only_on_loopback() {
    let compose = Compose::open();

    for (name, service) in &compose.services {
        for port in &service.ports {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
    for store in ["mongodb", "redis", "authentik-postgresql"] {
        let store = &compose.services[store];
        assert!(store.ports.is_empty());
        for network in store.networks.names() {
            let network = compose.networks[&network].as_ref();
            assert!(network.is_some_and(|network| network.internal));
        }
    }
}

#[test]
fn compose_contains_no_secret() {
    for (name, service) in Compose::open().services {
        for (variable, value) in service.environment.set() {
            let secret = ["PASSWORD", "TOKEN", "SECRET", "KEY", "ADMIN"]
                .iter()
                .any(|word| variable.ends_with(word));
            assert!(
                !secret || value.starts_with("${"),
                "{variable} of {name} is written out"
            );
        }
        for passed_on in service.environment.passed_on() {
            assert!(!passed_on.contains('='), "{name}: {passed_on}");
        }
    }
}
