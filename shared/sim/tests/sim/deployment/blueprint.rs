//! `.ops/authentik/blueprint.yaml`, compared with the setup checks and with docker-compose.yml.

use std::collections::BTreeSet;

use dezky_sim::issuer::APPLICATIONS;
use dezky_upstreams::clients::authentik::{APP_PROFILE, Authentik};
use serde_json::Value;

use super::{compose_file::Compose, read};

/// A right that only a setup check uses.
const FOR_CHECKS: &str = "authentik_rbac.view_system_info";

/// Entries of one model.
fn entries(model: &str) -> Vec<Value> {
    let blueprint: Value = serde_saphyr::from_str(&text()).unwrap();
    let entries = blueprint["entries"].as_array().unwrap().clone();
    let found: Vec<Value> = entries
        .into_iter()
        .filter(|entry| entry["model"] == model)
        .collect();
    assert!(!found.is_empty(), "{model}");
    found
}

fn text() -> String {
    read(".ops/authentik/blueprint.yaml")
}

#[test]
fn the_service_account_has_the_rights_that_jobs_need_and_no_others() {
    let roles = entries("authentik_rbac.role");
    let granted = roles[0]["attrs"]["permissions"].as_array().unwrap();
    let granted: BTreeSet<&str> = granted.iter().map(|it| it.as_str().unwrap()).collect();

    let needed = Authentik::needed_permissions().chain([FOR_CHECKS]);

    assert_eq!(granted, needed.collect());
    let token = &entries("authentik_core.token")[0]["attrs"];
    assert_eq!(token["intent"], "api");
    assert_eq!(token["expiring"], false);
    for group in entries("authentik_core.group") {
        assert_eq!(group["attrs"]["is_superuser"], false);
    }
}

#[test]
fn the_applications_pass_the_setup_checks() {
    let providers = entries("authentik_providers_oauth2.oauth2provider");
    let applications = entries("authentik_core.application");
    let slugs = |entries: &[Value], name: &str| -> BTreeSet<String> {
        let names = entries.iter().map(|it| it["identifiers"][name].as_str());
        names.map(|name| name.unwrap().to_owned()).collect()
    };
    let expected: BTreeSet<String> = APPLICATIONS.map(str::to_owned).into();

    assert_eq!(slugs(&providers, "name"), expected);
    assert_eq!(slugs(&applications, "slug"), expected);
    for provider in providers {
        let attrs = &provider["attrs"];
        assert_eq!(attrs["client_id"], provider["identifiers"]["name"]);
        assert_eq!(attrs["sub_mode"], "user_uuid");
        assert_eq!(attrs["issuer_mode"], "per_provider");
        assert!(!attrs["signing_key"].is_null());
        assert_eq!(attrs["property_mappings"].as_array().unwrap().len(), 4);
        let grants = attrs["grant_types"].as_array().unwrap();
        for needed in ["authorization_code", "refresh_token"] {
            assert!(grants.iter().any(|grant| grant == needed));
        }
    }
    assert!(!entries("authentik_brands.brand")[0]["attrs"]["flow_recovery"].is_null());
}

#[test]
fn apps_are_told_the_groups_that_they_are_restricted_to() {
    let mapping = &entries("authentik_providers_oauth2.scopemapping")[0];

    assert_eq!(mapping["identifiers"]["managed"], APP_PROFILE);
    assert_eq!(mapping["attrs"]["scope_name"], "profile");
    let expression = mapping["attrs"]["expression"].as_str().unwrap();
    assert!(expression.contains("provider.application.bindings"));
}

#[test]
fn compose_mounts_it_and_sets_its_variables() {
    let compose = Compose::open();
    for name in ["authentik", "authentik-worker"] {
        let service = &compose.services[name];
        let mounted = service.mounts()["/blueprints/dezky"];
        assert_eq!(mounted, "./.ops/authentik", "{name}");

        let set = service.environment.set();
        for variable in text().split("!Env ").skip(1) {
            let variable = variable.split([' ', ']', '}', '\n']).next().unwrap();
            assert!(set[variable].contains(":?"), "{name}: {variable}");
        }
    }
}
