//! Append-only audit trail: only sealing and retention modify recorded events.

use std::{collections::BTreeSet, fs, path::Path};

use dezky_sim::workspace;

/// Write methods of the driver.
const WRITES: [&str; 10] = [
    ".insert_one(",
    ".insert_many(",
    ".update_one(",
    ".update_many(",
    ".replace_one(",
    ".delete_one(",
    ".delete_many(",
    ".find_one_and_",
    "run_command(",
    "bulk_update_in(&",
];

fn sources(directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(workspace::root()).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            found.push((name.to_string_lossy().into_owned(), text));
        }
    }
}

#[test]
fn no_code_modifies_audit_events_except_sealing_and_retention() {
    let mut found = Vec::new();
    for package in ["api/src", "worker/src", "shared/src"] {
        sources(&workspace::root().join(package), &mut found);
    }

    let speak_of_events = found
        .iter()
        .filter(|(_, text)| text.contains("\"audit_events\""));
    let speak_of_events: BTreeSet<&str> = speak_of_events.map(|(name, _)| name.as_str()).collect();
    let writes = found
        .iter()
        .filter(|(name, _)| name.starts_with("shared/src/store/audit"))
        .flat_map(|(name, text)| {
            let name = name.trim_start_matches("shared/src/store/");
            let lines = text.lines().map(str::trim);
            let lines = lines.filter(|line| WRITES.iter().any(|write| line.contains(write)));
            lines.map(move |line| format!("{name}: {line}"))
        });
    let writes: BTreeSet<String> = writes.collect();

    assert_eq!(
        speak_of_events,
        BTreeSet::from(["shared/src/store/audit.rs"])
    );
    let expected = [
        "audit.rs: let inserted = self.events.insert_many(events).session(&mut *session);",
        "audit/outcomes.rs: let deleted = this.accepted.delete_many(ended).session(&mut *session);",
        "audit/outcomes.rs: let inserted = self.accepted.insert_many(accepted);",
        "audit/outcomes.rs: self.accepted.update_one(filter, update).await?;",
        "audit/retention.rs: let moved = chains.update_one(as_read, moved).session(&mut *session);",
        "audit/retention.rs: self.events.delete_many(old).session(session).await?;",
        "audit/sealing.rs: if bulk_update_in(&self.chains, session, heads).await? != expected {",
        "audit/sealing.rs: if bulk_update_in(&self.events, session, seals).await? == expected {",
        "audit/sealing.rs: match self.chains.insert_many(new).session(session).await {",
    ];
    assert_eq!(writes, expected.map(str::to_owned).into());
}
