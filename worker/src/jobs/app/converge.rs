//! Convergence of one app: provider, application without provider, binding to the tenant's group, attachment,
//! verification, in this order.
//!
//! An attached application without a binding is open to every user of the platform. Here nothing is attached before its
//! binding exists, and an application that is found [`Exposed`] is closed before anything else is looked at.

use dezky_shared::{
    app::{App, AppRefs, ClientType},
    queue::error_code::RetryPolicy,
    tenant::{DesiredState, Tenant},
    upstream::Upstream,
};
use dezky_upstreams::clients::{
    ClientError, FailedCall, Mode,
    authentik::{
        AppReferences, Application, Authentik, Binding, DesiredApp, is_open, is_restricted,
    },
};
use secrecy::SecretString;

use crate::steps::StepContext;

/// Tenant, client and desired state that the convergence of each of the tenant's apps needs.
#[derive(Clone, Copy)]
pub(super) struct AppContext<'a> {
    pub(super) run: &'a StepContext,
    pub(super) client: &'a Authentik,
    pub(super) tenant: &'a Tenant,
    /// Id of the tenant's group.
    pub(super) group: &'a str,
    pub(super) references: &'a AppReferences,
    pub(super) desired_state: DesiredState,
}

/// An attached application that more than the tenant's group may use, or that should not be attached.
pub(super) struct Exposed {
    application: Application,
    bindings: Vec<Binding>,
}

impl Exposed {
    /// The app's application, if it is exposed.
    pub(super) async fn find(
        client: &Authentik,
        tenant: &Tenant,
        app: &App,
        group: &str,
        desired_state: DesiredState,
    ) -> Result<Option<Self>, ClientError> {
        let slug = app.application_slug(&tenant.slug);
        let found = client.find_application(&slug).await?;
        let attached = found.filter(|application| {
            application.provider.is_some() && is_ours(application, &app.authentik)
        });
        let Some(application) = attached else {
            return Ok(None);
        };
        let bindings = client.list_bindings(&application.pk).await?;
        let is_exposed = desired_state != DesiredState::Active || !is_restricted(&bindings, group);
        Ok(is_exposed.then_some(Self {
            application,
            bindings,
        }))
    }

    /// Whether every user of the platform can sign in.
    pub(super) fn is_open(&self) -> bool {
        is_open(&self.bindings)
    }

    /// Restricts the application to the group, or detaches it.
    pub(super) async fn close(
        self,
        client: &Authentik,
        group: &str,
        desired_state: DesiredState,
        mode: Mode,
    ) -> Result<Vec<String>, ClientError> {
        if desired_state != DesiredState::Active {
            return client.detach_provider(&self.application, mode).await;
        }
        let ensured = client
            .ensure_binding(&self.application.pk, group, self.bindings, mode)
            .await?;
        Ok(ensured.changes)
    }
}

/// The result of a convergence, with everything that was learned until it ended.
pub(super) struct Outcome {
    pub(super) result: Result<(), ClientError>,
    /// Changes made upstream, or planned in a dry run.
    pub(super) changes: Vec<String>,
    /// Objects found or created.
    pub(super) refs: AppRefs,
    /// Whether the application certainly admits only members of the group.
    pub(super) is_restricted: bool,
    /// Whether the provider is another one than before, with an unknown secret.
    pub(super) is_secret_lost: bool,
    /// Objects that this run created.
    made: Made,
}

#[derive(Default)]
struct Made {
    provider: bool,
    application: bool,
}

/// Converges an app that is not [exposed](Exposed).
pub(super) async fn converge(
    app_context: AppContext<'_>,
    app: &App,
    secret: Option<&SecretString>,
) -> Outcome {
    let mut convergence = Convergence {
        app_context,
        app,
        slug: app.application_slug(&app_context.tenant.slug),
        outcome: Outcome {
            result: Ok(()),
            changes: Vec::new(),
            refs: app.authentik.clone(),
            is_restricted: false,
            is_secret_lost: false,
            made: Made::default(),
        },
    };
    let result = convergence.apply(secret).await;
    Outcome {
        result,
        ..convergence.outcome
    }
}

impl Outcome {
    /// Whether the identity provider refused the app, and a retry cannot succeed.
    pub(super) fn is_refused(&self) -> bool {
        let is_final = |error: &ClientError| error.code().retry_policy() == RetryPolicy::Never;
        self.result.as_ref().is_err_and(is_final)
    }

    /// Deletes the objects that the run created, in reverse. Objects that were found stay: they may be in use. A
    /// failure is left to the next run, which finds the objects again.
    pub(super) async fn roll_back(&mut self, client: &Authentik, app: &App, slug: &str) {
        let rolled_back = async {
            if self.made.application {
                // Takes the binding with it.
                client.delete_application(slug, Mode::Apply).await?;
                self.refs.application_pk = None;
                self.refs.binding_pk = None;
            }
            if self.made.provider
                && let Some(provider) = client.find_provider(&app.client_id).await?
            {
                client.delete_provider(&provider, Mode::Apply).await?;
                self.refs.provider_pk = None;
                self.is_secret_lost = false;
            }
            Ok::<_, ClientError>(())
        };
        if let Err(error) = rolled_back.await {
            tracing::warn!(%error, app.id = %app.id, "Could not delete the objects of a refused app");
        }
    }
}

fn is_ours(application: &Application, refs: &AppRefs) -> bool {
    application.belongs_to(refs.application_pk.as_deref(), refs.provider_pk)
}

struct Convergence<'a> {
    app_context: AppContext<'a>,
    app: &'a App,
    slug: String,
    outcome: Outcome,
}

impl Convergence<'_> {
    async fn apply(&mut self, secret: Option<&SecretString>) -> Result<(), ClientError> {
        let AppContext { run, client, .. } = self.app_context;
        let found = client.find_application(&self.slug).await?;
        let Some(provider_pk) = self.ensure_provider(secret).await? else {
            return Ok(());
        };
        if let Some(application) = &found
            && !is_ours(application, &self.outcome.refs)
        {
            return Err(self.conflict("the slug belongs to an application that is not ours"));
        }
        let Some(application) = self.ensure_application(found).await? else {
            return Ok(());
        };
        if self.app_context.desired_state == DesiredState::Active {
            let attached = client
                .attach_provider(&application, provider_pk, run.mode)
                .await?;
            self.outcome.changes.extend(attached);
            self.verify(&application).await?;
        }
        Ok(())
    }

    /// Number of the provider; `None` if a dry run found none.
    async fn ensure_provider(
        &mut self,
        secret: Option<&SecretString>,
    ) -> Result<Option<i64>, ClientError> {
        let AppContext {
            run,
            client,
            references,
            ..
        } = self.app_context;
        let desired = DesiredApp {
            slug: &self.slug,
            app: self.app,
        };
        let ensured = client
            .ensure_provider(&desired, references, secret, run.mode)
            .await?;
        self.outcome.changes.extend(ensured.changes);
        let Some(provider) = ensured.value else {
            return Ok(None);
        };
        let pk = Some(provider.object.pk);
        // Also where the response to its creation was lost.
        let is_another = self.app.authentik.provider_pk != pk;
        let is_confidential = self.app.client_type == ClientType::Confidential;
        self.outcome.is_secret_lost = is_another && secret.is_none() && is_confidential;
        self.outcome.made.provider = provider.is_new;
        self.outcome.refs.provider_pk = pk;
        Ok(pk)
    }

    /// The application with its binding; `None` if a dry run found none.
    async fn ensure_application(
        &mut self,
        found: Option<Application>,
    ) -> Result<Option<Application>, ClientError> {
        let AppContext {
            run, client, group, ..
        } = self.app_context;
        let desired = DesiredApp {
            slug: &self.slug,
            app: self.app,
        };
        let ensured = client.ensure_application(&desired, found, run.mode).await?;
        self.outcome.changes.extend(ensured.changes);
        let Some(application) = ensured.value else {
            return Ok(None);
        };
        self.outcome.made.application = application.is_new;
        let application = application.object;
        self.outcome.refs.application_pk = Some(application.pk.clone());
        let bindings = if self.outcome.made.application {
            Vec::new()
        } else {
            client.list_bindings(&application.pk).await?
        };
        let ensured = client
            .ensure_binding(&application.pk, group, bindings, run.mode)
            .await?;
        self.outcome.changes.extend(ensured.changes);
        if let Some(binding) = ensured.value {
            self.outcome.refs.binding_pk = Some(binding.object.pk);
            self.outcome.is_restricted = run.mode == Mode::Apply;
        }
        Ok(Some(application))
    }

    /// Verifies the changes of this run.
    async fn verify(&mut self, application: &Application) -> Result<(), ClientError> {
        let AppContext {
            run, client, group, ..
        } = self.app_context;
        if self.outcome.changes.is_empty() || run.mode == Mode::DryRun {
            return Ok(());
        }
        let bindings = client.list_bindings(&application.pk).await?;
        if !is_restricted(&bindings, group) {
            self.outcome.is_restricted = false;
            return Err(self.conflict("the application's bindings changed meanwhile"));
        }
        client.verify_discovery(&self.slug).await
    }

    fn conflict(&self, detail: &str) -> ClientError {
        ClientError::Conflict(FailedCall {
            upstream: Upstream::Authentik,
            operation: "ensure_application",
            status: None,
            request_id: None,
            detail: format!("{}: {detail}", self.slug),
        })
    }
}
