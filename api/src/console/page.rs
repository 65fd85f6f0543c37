//! Common parts of all pages: the frame, the stylesheet, the script and the security headers.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use dezky_shared::user::PlatformRole;
use http::{HeaderName, HeaderValue, header};

use super::{
    ConsoleState,
    actions::catalogue::{self, Action},
    failure::Failure,
    form::{Form, Question},
    query::{Parameters, text},
    session::{Session, random},
};

/// Pages in the navigation: address and name.
const NAVIGATION: [(&str, &str); 13] = [
    ("/console", "Overview"),
    ("/console/jobs", "Jobs"),
    ("/console/operations", "Operations"),
    ("/console/queues", "Queues"),
    ("/console/upstreams", "Upstreams"),
    ("/console/schedules", "Schedules"),
    ("/console/workers", "Workers"),
    ("/console/tenants", "Tenants"),
    ("/console/partners", "Partners"),
    ("/console/billing", "Billing"),
    ("/console/reports", "Reports"),
    ("/console/flags", "Flags"),
    ("/console/audit", "Audit"),
];

/// A link of the navigation.
pub(super) struct Link {
    pub(super) path: &'static str,
    pub(super) label: &'static str,
    pub(super) is_current: bool,
}

/// The frame of a page: its title, the navigation, the operator, and the hidden fields of its forms.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) title: String,
    section: &'static str,
    pub(super) operator: String,
    role: PlatformRole,
    pub(super) form_token: String,
    pub(super) form_key: String,
    pub(super) notice: Option<&'static str>,
    /// Whether the script keeps the page up to date.
    pub(super) is_live: bool,
}

impl Frame {
    /// The frame of a page in a section of the navigation.
    pub(super) fn new(
        session: &Session,
        section: &'static str,
        title: impl Into<String>,
        parameters: &Parameters,
    ) -> Result<Self, Failure> {
        Ok(Self {
            title: title.into(),
            section,
            operator: session.user.name.clone(),
            role: session.role,
            form_token: session.form_token.clone(),
            form_key: random()?,
            notice: text(parameters, "notice").and_then(catalogue::notice),
            is_live: true,
        })
    }

    /// The frame of a page that is not read again while it is open, because that takes long, or because the page answers
    /// a form: its address reads another page, or none.
    pub(super) fn still(self) -> Self {
        Self {
            is_live: false,
            ..self
        }
    }

    /// The frame with the idempotency key of a form that is confirmed.
    pub(super) fn with_key(self, form_key: &str) -> Self {
        Self {
            form_key: form_key.to_owned(),
            ..self
        }
    }

    /// The form of an action on a resource. `None` if the operator's role does not have the action.
    pub(super) fn form(
        &self,
        resource: &str,
        id: &str,
        name: &str,
        label: impl Into<String>,
    ) -> Option<Form> {
        let action = self.action(resource, name)?;
        Some(Form {
            path: format!("/console/{resource}/{id}/{name}"),
            label: label.into(),
            token: self.form_token.clone(),
            key: self.form_key.clone(),
            question: Question::new(action, id),
            can_dry_run: false,
            fields: Vec::new(),
        })
    }

    /// The action, if the operator's role has it.
    pub(super) fn action(&self, resource: &str, name: &str) -> Option<&'static Action> {
        catalogue::find(resource, name).filter(|action| self.role >= action.least_role)
    }

    /// The links of the navigation.
    pub(super) fn links(&self) -> Vec<Link> {
        let link = |(path, label)| Link {
            path,
            label,
            is_current: path == self.section,
        };
        NAVIGATION.map(link).into()
    }

    /// The role in words.
    pub(super) fn role_name(&self) -> &'static str {
        match self.role {
            PlatformRole::Viewer => "viewer, read-only",
            PlatformRole::Support => "support",
            PlatformRole::Admin => "admin",
        }
    }

    /// Whether the operator may requeue jobs.
    pub(super) fn may_requeue(&self) -> bool {
        self.role >= PlatformRole::Support
    }

    /// Whether the operator may change everything.
    pub(super) fn may_write(&self) -> bool {
        self.role == PlatformRole::Admin
    }
}

/// The stylesheet.
pub(super) fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("style.css"))
}

/// The script that keeps an open page up to date.
pub(super) fn live_script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("live.js"))
}

/// The script that confirms destructive actions in a dialog.
pub(super) fn confirm_script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("confirm.js"))
}

fn file(content_type: &'static str, content: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "public, max-age=300"),
    ];
    (headers, content).into_response()
}

/// Middleware: only the stylesheet and the scripts are loaded, scripts read from the console only, no other page shows
/// the console in a frame, and forms are sent to the console only. The issuer is allowed too, because browsers apply `form-action` to redirects, and the form that signs
/// out is redirected there.
pub(super) async fn secure(
    State(console): State<ConsoleState>,
    request: Request,
    next: Next,
) -> Response {
    const OTHERS: [(HeaderName, &str); 3] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Browsers send the origin of a form with this policy, and no address of a page elsewhere.
        (header::REFERRER_POLICY, "same-origin"),
    ];
    let mut response = next.run(request).await;
    let issuer = origin(&console.config.issuer);
    let policy = format!(
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self' {issuer}; base-uri 'none'; frame-ancestors 'none'"
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in OTHERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> String {
    let parsed = reqwest::Url::parse(url);
    parsed.map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
}
