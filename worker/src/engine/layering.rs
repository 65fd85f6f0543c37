//! The layering rule of the engine, as a test over its sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Modules of the workspace that the engine and the step interface may import. They reach the product through the sinks
/// and duties that are registered with them.
const ALLOWED: [&str; 15] = [
    "crate::context",
    "crate::engine",
    "crate::host",
    "crate::metrics",
    "crate::retry_delay",
    "crate::steps",
    "dezky_shared::id",
    "dezky_shared::platform",
    "dezky_shared::queue",
    "dezky_shared::store::jobs",
    "dezky_shared::store::queues",
    "dezky_shared::store::upstreams",
    "dezky_shared::store::workers",
    "dezky_shared::upstream",
    "dezky_upstreams",
];
/// Fields that they may use of the [`Context`](crate::context::Context), which has the product's repositories, too.
const ALLOWED_FIELDS: [&str; 11] = [
    "changes",
    "circuits",
    "clients",
    "clone",
    "encryption_keys",
    "jobs",
    "queues",
    "ready",
    "store",
    "upstreams",
    "workers",
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
        let paths = mentioned_paths(&text).into_iter();
        let paths = paths.filter(|path| !is_allowed(path));
        let fields = fields_of_context(&text).into_iter();
        let fields = fields.filter(|field| !ALLOWED_FIELDS.contains(field));
        let found = paths.chain(fields.map(|field| format!("ctx.{field}")));
        violations.extend(found.map(|found| format!("{}: {found}", source.display())));
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

/// Whether a path is within an allowed module, or an item of the store itself, such as its errors.
fn is_allowed(path: &str) -> bool {
    let of_store = path.strip_prefix("dezky_shared::store::");
    let is_item = of_store.is_some_and(|item| !item.contains("::"));
    is_item || ALLOWED.iter().any(|module| is_within(path, module))
}

/// The fields of a context that `source` names.
fn fields_of_context(source: &str) -> Vec<&str> {
    let uses = source.split("ctx.").skip(1);
    let end = |rest: &str| {
        rest.find(|it: char| !it.is_alphanumeric() && it != '_')
            .unwrap_or(rest.len())
    };
    uses.map(|rest| &rest[..end(rest)])
        .filter(|field| !field.is_empty())
        .collect()
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
    for root in ["dezky_shared::", "dezky_upstreams::", "crate::"] {
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
