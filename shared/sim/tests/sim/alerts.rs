//! The alerting rules, as Prometheus evaluates them.

use std::{collections::BTreeSet, fs, process::Command};

use dezky_sim::{tools, workspace};

/// Values of a key that stands alone on its lines.
fn values(text: &str, key: &str) -> BTreeSet<String> {
    let lines = text
        .lines()
        .map(|line| line.trim().trim_start_matches("- "));
    let values = lines.filter_map(|line| line.strip_prefix(key));
    values.map(|value| value.trim().to_owned()).collect()
}

fn run_promtool(arguments: &[&str]) {
    let promtool = tools::promtool().unwrap();
    let mut command = Command::new(promtool);
    command.args(arguments);
    command.current_dir(workspace::root().join(".ops"));
    let ended = command.output().unwrap();
    let output = [ended.stdout, ended.stderr].concat();
    let output = String::from_utf8_lossy(&output);
    assert!(ended.status.success(), "{output}");
}

#[test]
fn every_alert_has_tests_which_pass() {
    let read = |name: &str| fs::read_to_string(workspace::root().join(".ops").join(name)).unwrap();

    let alerts = values(&read("alerts.yml"), "alert:");
    let tested = values(&read("alerts.test.yml"), "alertname:");

    assert!(!alerts.is_empty());
    assert_eq!(alerts, tested);
    run_promtool(&["test", "rules", "alerts.test.yml"]);
}

#[test]
fn the_scrape_configuration_and_its_rules_are_valid() {
    run_promtool(&["check", "config", "prometheus.yml"]);
}
