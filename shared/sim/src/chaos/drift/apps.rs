//! Drift of apps: differences between their documents and the objects at the identity provider.

use std::collections::{BTreeMap, BTreeSet};

use dezky_shared::{
    app::{App, AppStatus},
    tenant::Tenant,
};
use serde_json::Value;

use super::{UpstreamSnapshot, of};
use crate::authentik::{Application, AuthentikSim, Binding, OAuthProvider};

/// Objects of apps at the identity provider.
#[derive(Debug)]
pub(super) struct AppObjects {
    providers: Vec<OAuthProvider>,
    /// By slug.
    applications: BTreeMap<String, Application>,
    bindings: Vec<Binding>,
}

impl AppObjects {
    /// Reads the current state.
    pub(super) fn take(authentik: &AuthentikSim) -> Self {
        authentik.change(|state| Self {
            providers: state.apps.providers.values().cloned().collect(),
            applications: state.apps.applications.clone(),
            bindings: state.apps.bindings.values().cloned().collect(),
        })
    }

    fn providers_of(&self, app: &App) -> Vec<&OAuthProvider> {
        let providers = self.providers.iter();
        providers
            .filter(|provider| provider.text("client_id") == app.client_id)
            .collect()
    }

    fn bindings_of(&self, application: &Application) -> Vec<&Binding> {
        let bindings = self.bindings.iter();
        bindings
            .filter(|binding| binding.target == application.pk)
            .collect()
    }
}

impl UpstreamSnapshot {
    /// The difference from an app that is reported as active or suspended, if there is one.
    pub(in super::super) fn drift_of_app(&self, app: &App, tenant: &Tenant) -> Option<String> {
        let is_attached = match app.status {
            AppStatus::Active => true,
            AppStatus::Suspended => false,
            AppStatus::Pending | AppStatus::Failed | AppStatus::Removing => return None,
        };
        let slug = app.application_slug(&tenant.slug);
        let providers = self.apps.providers_of(app);
        let application = self.apps.applications.get(&slug);
        let bindings = application.map_or_else(Vec::new, |it| self.apps.bindings_of(it));
        let group = of(&self.groups, tenant).first().map(|group| group.id);
        let is_right = match (&providers[..], application, &bindings[..]) {
            ([provider], Some(application), [binding]) => {
                application.provider == is_attached.then_some(provider.pk)
                    && application.fields["name"] == app.name
                    && redirect_uris(provider) == app.redirect_uris.iter().collect()
                    && binding.enabled
                    && !binding.negate
                    && binding.group == group
            }
            _ => false,
        };
        (!is_right).then(|| {
            let provider_pks: Vec<i64> = providers.iter().map(|provider| provider.pk).collect();
            format!(
                "app {slug} ({}): providers {provider_pks:?}, {application:?}, bindings {bindings:?}",
                app.status.name()
            )
        })
    }

    /// Providers, applications and bindings that belong to no app.
    pub(in super::super) fn orphaned_app_objects(
        &self,
        apps: &[App],
        tenants: &[Tenant],
    ) -> Vec<String> {
        let slugs: BTreeMap<_, _> = tenants.iter().map(|it| (it.id, &it.slug)).collect();
        let client_ids: BTreeSet<&str> = apps.iter().map(|app| app.client_id.as_str()).collect();
        let known: BTreeSet<String> = apps
            .iter()
            .filter_map(|app| Some(app.application_slug(slugs.get(&app.tenant_id)?)))
            .collect();
        let providers = self.apps.providers.iter();
        let providers = providers
            .filter(|provider| !client_ids.contains(provider.text("client_id")))
            .map(|provider| format!("the provider {} has no app", provider.text("name")));
        let applications = self.apps.applications.iter();
        let applications = applications
            .filter(|(slug, _)| !known.contains(*slug))
            .map(|(slug, _)| format!("the application {slug} has no app"));
        let targets: BTreeSet<_> = self.apps.applications.values().map(|it| it.pk).collect();
        let bindings = self.apps.bindings.iter();
        let bindings = bindings
            .filter(|binding| !targets.contains(&binding.target))
            .map(|binding| format!("{binding:?} has no application"));
        providers.chain(applications).chain(bindings).collect()
    }
}

fn redirect_uris(provider: &OAuthProvider) -> BTreeSet<&String> {
    let uris = provider.fields.get("redirect_uris");
    let uris = uris.and_then(Value::as_array).into_iter().flatten();
    uris.filter_map(|uri| match &uri["url"] {
        Value::String(url) => Some(url),
        _ => None,
    })
    .collect()
}
