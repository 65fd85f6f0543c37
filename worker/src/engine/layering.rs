//! The layering rule of the engine, as a test over its sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Modules of the product. The engine reaches them through the sinks and duties that are registered with it.
const PRODUCT: [&str; 24] = [
    "dezky_shared::audit",
    "dezky_shared::billing",
    "dezky_shared::branding",
    "dezky_shared::domain",
    "dezky_shared::feature_flag",
    "dezky_shared::invitation",
    "dezky_shared::partner",
    "dezky_shared::security_policy",
    "dezky_shared::store::audit",
    "dezky_shared::store::domains",
    "dezky_shared::store::flags",
    "dezky_shared::store::invitations",
    "dezky_shared::store::partners",
    "dezky_shared::store::prices",
    "dezky_shared::store::snapshots",
    "dezky_shared::store::subscriptions",
    "dezky_shared::store::tenants",
    "dezky_shared::store::users",
    "dezky_shared::subscription",
    "dezky_shared::subscription_snapshot",
    "dezky_shared::tenant",
    "dezky_shared::user",
    "crate::dns",
    "crate::jobs",
];

#[test]
fn the_engine_and_the_step_interface_import_no_module_of_the_product() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = vec![root.join("engine.rs"), root.join("steps.rs")];
    collect(&root.join("engine"), &mut sources);
    collect(&root.join("steps"), &mut sources);
    assert!(
        sources.len() > 20,
        "the sources were not found: {sources:?}"
    );

    let mut violations = Vec::new();
    for source in sources.iter().filter(|path| !path.ends_with("layering.rs")) {
        let text = fs::read_to_string(source).expect("the source is readable");
        for path in mentioned_paths(&text) {
            if PRODUCT.iter().any(|module| is_within(&path, module)) {
                violations.push(format!("{}: {path}", source.display()));
            }
        }
    }

    assert!(
        violations.is_empty(),
        "the engine must not import the product's modules; put the code behind a `StepSink` or a `Duty`:\n{}",
        violations.join("\n")
    );
}

#[test]
fn paths_are_found_in_nested_imports_and_in_expressions() {
    let source = "use dezky_shared::{\n    id::JobId, // a comment\n    store::{StoreError, tenants::Repository},\n};\n\
        fn f() { dezky_shared::user::f(crate::jobs::registry()) }\n// crate::dns in a comment\n";

    let paths = mentioned_paths(source);

    assert_eq!(
        paths,
        [
            "dezky_shared::id::JobId",
            "dezky_shared::store::StoreError",
            "dezky_shared::store::tenants::Repository",
            "dezky_shared::user::f",
            "crate::jobs::registry",
        ]
    );
}

/// Whether `path` names `module` or an item in it.
fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn collect(folder: &Path, sources: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the entry is readable").path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
}

/// Every full path in `source` that begins at a crate's root, those of nested imports expanded.
fn mentioned_paths(source: &str) -> Vec<String> {
    let code: String = source
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" ");
    let mut paths = Vec::new();
    for root in ["dezky_shared::", "crate::"] {
        for (start, _) in code.match_indices(root) {
            expand("", &code[start..], &mut paths);
        }
    }
    paths
}

/// Adds the paths of the import tree at the beginning of `code`, each after `prefix`. Returns what follows the tree.
fn expand<'a>(prefix: &str, code: &'a str, paths: &mut Vec<String>) -> &'a str {
    let is_path = |character: char| character.is_alphanumeric() || "_:*".contains(character);
    let end = code
        .find(|character| !is_path(character))
        .unwrap_or(code.len());
    let path = format!("{prefix}{}", &code[..end]);
    let mut rest = &code[end..];
    let Some(mut items) = rest.strip_prefix('{').filter(|_| path.ends_with("::")) else {
        paths.push(path);
        return rest;
    };
    loop {
        items = items.trim_start_matches(|it: char| it.is_whitespace() || it == ',');
        rest = items;
        if let Some(after) = items.strip_prefix('}') {
            return after;
        }
        if items.is_empty() {
            return rest;
        }
        items = expand(&path, items, paths);
        // An alias: `path as name`.
        let trimmed = items.trim_start();
        if let Some(alias) = trimmed.strip_prefix("as ") {
            let end = alias.find([',', '}']).unwrap_or(alias.len());
            items = &alias[end..];
        } else if items.len() == rest.len() {
            return "";
        }
    }
}
