//! Applications: the user's side of an app, found by the slug.
//!
//! The list hides applications that our own account may not launch, so existence is tested by the detail path.

use http::StatusCode;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{DesiredApp, EnsuredObject};
use crate::clients::{
    ClientError, Ensured, Mode, Operation,
    authentik::{Authentik, error, failed},
};

const PATH: &str = "/core/applications/";

/// Application as the server has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Application {
    /// UUID.
    pub pk: String,
    /// Slug.
    pub slug: String,
    /// Number of the attached provider.
    pub provider: Option<i64>,
    name: String,
    #[serde(default)]
    meta_launch_url: Option<String>,
    #[serde(default)]
    meta_icon: Option<String>,
    #[serde(default)]
    policy_engine_mode: String,
}

impl Application {
    /// Whether the application is the app's: the one that a job stored, one with its provider, or one without any, such as
    /// one whose creation was not recorded.
    pub fn belongs_to(&self, application_pk: Option<&str>, provider_pk: Option<i64>) -> bool {
        application_pk == Some(&self.pk) || self.provider.is_none() || self.provider == provider_pk
    }

    /// The desired fields that differ, without the provider.
    fn differing(&self, mut desired: Map<String, Value>) -> Map<String, Value> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        desired.retain(|field, desired| {
            let found = match field.as_str() {
                "name" => self.name.clone(),
                "meta_launch_url" => text(&self.meta_launch_url),
                "meta_icon" => text(&self.meta_icon),
                _ => self.policy_engine_mode.clone(),
            };
            desired.as_str() != Some(&found)
        });
        desired
    }
}

impl Authentik {
    /// The application with this slug.
    pub async fn find_application(&self, slug: &str) -> Result<Option<Application>, ClientError> {
        let path = format!("{PATH}{slug}/");
        let found: Option<Application> = self.get("get_application", &path, &[]).await?;
        Ok(found.filter(|application| application.slug == slug))
    }

    /// Ensures the application of an app, without drift. A new one has no provider. `found` is what
    /// [`find_application`](Self::find_application) returned.
    pub async fn ensure_application(
        &self,
        desired: &DesiredApp<'_>,
        found: Option<Application>,
        mode: Mode,
    ) -> Result<Ensured<EnsuredObject<Application>>, ClientError> {
        let fields = fields(desired);
        if let Some(application) = found {
            return self.repair_application(application, fields, mode).await;
        }
        let changes = vec!["application created".to_owned()];
        if mode == Mode::DryRun {
            let value = None;
            return Ok(Ensured { value, changes });
        }
        if let Some(object) = self.create_application(desired.slug, &fields).await? {
            let is_new = true;
            let value = Some(EnsuredObject { object, is_new });
            return Ok(Ensured { value, changes });
        }
        // Created since the lookup: the next attempt finds it and decides whose it is.
        Err(ClientError::Conflict(failed(
            "create_application",
            "the slug is taken by an application that did not exist a moment ago, or that our account cannot see",
        )))
    }

    /// Attaches the provider, which lets users sign in: only to an application with its binding.
    pub async fn attach_provider(
        &self,
        application: &Application,
        provider_pk: i64,
        mode: Mode,
    ) -> Result<Vec<String>, ClientError> {
        if application.provider == Some(provider_pk) {
            return Ok(Vec::new());
        }
        if mode == Mode::Apply {
            let operation = Operation::write("attach_provider");
            let provider = Some(provider_pk);
            self.set_provider(operation, &application.slug, provider)
                .await?;
        }
        Ok(vec!["provider attached".to_owned()])
    }

    /// Detaches the provider: sign-in ends, and the tokens that were issued are no longer accepted by Authentik.
    pub async fn detach_provider(
        &self,
        application: &Application,
        mode: Mode,
    ) -> Result<Vec<String>, ClientError> {
        if application.provider.is_none() {
            return Ok(Vec::new());
        }
        if mode == Mode::Apply {
            let operation = Operation::write("detach_provider");
            self.set_provider(operation, &application.slug, None)
                .await?;
        }
        Ok(vec!["provider detached".to_owned()])
    }

    /// Deletes an application, and with it its bindings. The provider stays.
    pub async fn delete_application(
        &self,
        slug: &str,
        mode: Mode,
    ) -> Result<Vec<String>, ClientError> {
        let path = format!("{PATH}{slug}/");
        let operation = Operation::write("delete_application");
        let is_changed = mode == Mode::DryRun || self.delete(operation, &path).await?;
        Ok(is_changed
            .then(|| "application deleted".to_owned())
            .into_iter()
            .collect())
    }

    /// `None` if the slug is taken.
    async fn create_application(
        &self,
        slug: &str,
        fields: &Map<String, Value>,
    ) -> Result<Option<Application>, ClientError> {
        let mut body = fields.clone();
        body.insert("slug".to_owned(), slug.into());
        let request = self.http.request(Method::POST, PATH).json(&body);
        let operation = Operation::write("create_application");
        let response = self.send(operation, request).await?;
        if error::is_duplicate(&response, "slug") {
            return Ok(None);
        }
        self.expect(&response, StatusCode::CREATED)?;
        response.json().map(Some)
    }

    async fn repair_application(
        &self,
        application: Application,
        desired: Map<String, Value>,
        mode: Mode,
    ) -> Result<Ensured<EnsuredObject<Application>>, ClientError> {
        let differing = application.differing(desired);
        let changes = differing
            .keys()
            .map(|field| format!("application {} set", field.replace('_', " ")));
        let changes: Vec<String> = changes.collect();
        let object = if changes.is_empty() || mode == Mode::DryRun {
            application
        } else {
            let operation = Operation::write("update_application");
            let body = Value::from(differing.clone());
            let updated = self
                .patch_application(operation, &application.slug, &body)
                .await?;
            if !updated.differing(differing).is_empty() {
                return Err(ClientError::Rejected(failed(
                    "update_application",
                    "the update was not applied",
                )));
            }
            updated
        };
        let is_new = false;
        let value = Some(EnsuredObject { object, is_new });
        Ok(Ensured { value, changes })
    }

    async fn set_provider(
        &self,
        operation: Operation,
        slug: &str,
        provider: Option<i64>,
    ) -> Result<(), ClientError> {
        let name = operation.name;
        let body = json!({ "provider": provider });
        let updated = self.patch_application(operation, slug, &body).await?;
        if updated.provider == provider {
            return Ok(());
        }
        let detail = "the update was not applied";
        Err(ClientError::Rejected(failed(name, detail)))
    }

    async fn patch_application(
        &self,
        operation: Operation,
        slug: &str,
        body: &Value,
    ) -> Result<Application, ClientError> {
        let path = format!("{PATH}{slug}/");
        let request = self.http.request(Method::PATCH, &path).json(body);
        let response = self.send(operation, request).await?;
        if error::is_duplicate(&response, "provider") {
            return Err(ClientError::Conflict(
                response.failed("the app's provider is attached to another application"),
            ));
        }
        if response.status == StatusCode::NOT_FOUND {
            let detail = "the application was deleted meanwhile";
            return Err(ClientError::Conflict(response.failed(detail)));
        }
        self.expect(&response, StatusCode::OK)?;
        response.json()
    }
}

/// The fields that we own, without slug and provider. Empty texts are the server's form of missing ones.
fn fields(DesiredApp { app, .. }: &DesiredApp<'_>) -> Map<String, Value> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Map::from_iter([
        ("name".to_owned(), app.name.as_str().into()),
        ("meta_launch_url".to_owned(), text(&app.launch_url).into()),
        ("meta_icon".to_owned(), text(&app.logo_url).into()),
        ("policy_engine_mode".to_owned(), "any".into()),
    ])
}
