//! The OpenAPI document, as validators and generators of others read it.

use std::{fs, path::Path, process::Stdio};

use dezky_sim::tools::{OpenApiTools, openapi_tools};
use tempfile::TempDir;
use tokio::{process::Command, task::spawn_blocking};

/// The document as a file, and the tools.
struct Trial {
    directory: TempDir,
    tools: OpenApiTools,
}

impl Trial {
    async fn start() -> Self {
        let tools = spawn_blocking(openapi_tools).await.unwrap().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let document = dezky_api::document().to_string();
        fs::write(directory.path().join("openapi.json"), document).unwrap();
        Self { directory, tools }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Runs a tool in the directory of the document. Panics with its output if it fails.
    async fn run(&self, tool: std::process::Command, arguments: &[&str]) {
        let mut command = Command::from(tool);
        command.args(arguments).current_dir(self.path());
        let ended = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let ended = ended.await.unwrap();
        let output = [ended.stdout, ended.stderr].concat();
        assert!(
            ended.status.success(),
            "{}",
            String::from_utf8_lossy(&output)
        );
    }
}

#[tokio::test]
async fn openapi_spec_validator_finds_no_error() {
    let trial = Trial::start().await;

    let validator = trial.tools.spec_validator();
    trial.run(validator, &["openapi.json"]).await;
}

#[tokio::test]
async fn redocly_finds_no_error() {
    let trial = Trial::start().await;

    let linter = trial.tools.redocly();
    trial.run(linter, &["lint", "openapi.json"]).await;
}

#[tokio::test]
async fn spectral_finds_no_error() {
    let trial = Trial::start().await;
    let ruleset = trial.path().join("ruleset.json");
    fs::write(ruleset, r#"{ "extends": ["spectral:oas"] }"#).unwrap();

    let linter = trial.tools.spectral();
    let arguments = ["lint", "--ruleset", "ruleset.json", "openapi.json"];
    trial.run(linter, &arguments).await;
}

#[tokio::test]
async fn openapi_generator_accepts_the_document() {
    let trial = Trial::start().await;

    let generator = trial.tools.generator();
    let arguments = ["validate", "--input-spec", "openapi.json"];
    trial.run(generator, &arguments).await;
}

#[tokio::test]
async fn a_typescript_client_compiles_with_the_generated_types() {
    let trial = Trial::start().await;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/generators");
    for name in ["client.ts", "tsconfig.json"] {
        fs::copy(sources.join(name), trial.path().join(name)).unwrap();
    }

    let generator = trial.tools.typescript_generator();
    let arguments = ["openapi.json", "--output", "schema.d.ts"];
    trial.run(generator, &arguments).await;

    let compiler = trial.tools.typescript_compiler();
    trial.run(compiler, &["--project", "."]).await;
}
