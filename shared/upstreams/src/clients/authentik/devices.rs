//! MFA devices of users.
//!
//! The list of devices is silent about two things: it omits the types that our account may not view, and its items do
//! not name their owners, so that an ignored filter would show one person the devices of all. Both are checked before
//! a list is relied upon.

use bson::DateTime;
use http::StatusCode;
use reqwest::Method;
use serde::Deserialize;

use super::{Authentik, User, failed};
use crate::clients::{ClientError, Operation, setup::SetupCheck};
use dezky_shared::mfa::DeviceType;

const LIST: &str = "list_devices";
const ROOT: &str = "/authenticators/admin/";
/// Primary key of no user.
const NO_USER: i64 = 0;
const FILTER_IGNORED: &str = "the filter by user is ignored: devices of no user are listed";

/// Permissions to view devices of every type that is a second factor.
pub(super) const VIEW_SECOND_FACTORS: [&str; 5] = [
    "authentik_stages_authenticator_duo.view_duodevice",
    "authentik_stages_authenticator_email.view_emaildevice",
    "authentik_stages_authenticator_sms.view_smsdevice",
    "authentik_stages_authenticator_totp.view_totpdevice",
    "authentik_stages_authenticator_webauthn.view_webauthndevice",
];

/// MFA device of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MfaDevice {
    /// Type.
    pub kind: DeviceType,
    /// Whether the enrolment is confirmed.
    pub confirmed: bool,
    /// Id, unique for its class only.
    id: String,
    /// Segment of the class in paths: `totp`.
    class: String,
    created: Option<DateTime>,
}

impl Authentik {
    /// Positive control of device lists: whether the absence of a device in a list proves that there is none, because our
    /// account may view every type of second factor.
    ///
    /// Fails if Authentik ignores the filter by user.
    pub async fn sees_all_second_factors(&self) -> Result<bool, ClientError> {
        if !self.list_mfa_devices(NO_USER).await?.is_empty() {
            return Err(ClientError::Rejected(failed(LIST, FILTER_IGNORED)));
        }
        self.has_permissions(&VIEW_SECOND_FACTORS).await
    }

    /// Setup check of the filter by user. The permissions are checked with all others.
    pub(super) async fn check_device_filter(&self) -> SetupCheck {
        const NAME: &str = "filter of MFA devices";
        match self.list_mfa_devices(NO_USER).await {
            Ok(devices) if devices.is_empty() => SetupCheck::ok(NAME, "by user"),
            Ok(_) => SetupCheck::failed(
                NAME,
                format!("{FILTER_IGNORED}; look for a proxy that drops query parameters"),
            ),
            Err(error) => SetupCheck::of_error(NAME, &error, "check again later"),
        }
    }

    /// The user's devices, confirmed or not, as far as our account may view them.
    pub async fn list_mfa_devices(&self, user_pk: i64) -> Result<Vec<MfaDevice>, ClientError> {
        let user = user_pk.to_string();
        let path = format!("{ROOT}all/");
        let request = self
            .http
            .request(Method::GET, &path)
            .query(&[("user", &user)]);
        let response = self.send(Operation::read(LIST), request).await?;
        self.expect(&response, StatusCode::OK)?;
        let devices: Vec<Record> = response.json()?;
        Ok(devices.into_iter().map(MfaDevice::from).collect())
    }

    /// Deletes those of the user's devices that were enrolled until `enrolled_until`, each after its owner was compared.
    /// Returns the deleted ones.
    ///
    /// Another user's device in the list is a conflict: nothing further is deleted.
    pub async fn delete_mfa_devices(
        &self,
        user: &User,
        enrolled_until: DateTime,
    ) -> Result<Vec<MfaDevice>, ClientError> {
        let is_old = |device: &MfaDevice| device.created.is_none_or(|at| at <= enrolled_until);
        let mut deleted = Vec::new();
        for device in self.list_mfa_devices(user.pk).await? {
            if !is_old(&device) {
                continue;
            }
            let path = format!("{ROOT}{}/{}/", device.class, device.id);
            let Some(Owned { user: owner }) = self.get("get_device", &path, &[]).await? else {
                continue;
            };
            if owner.is_none_or(|owner| owner.pk != user.pk) {
                let detail = "a listed device is not known to be the user's, and was not deleted";
                return Err(ClientError::Conflict(failed("get_device", detail)));
            }
            let operation = Operation::write("delete_device");
            if self.delete(operation, &path).await? {
                deleted.push(device);
            }
        }
        if self.list_mfa_devices(user.pk).await?.iter().any(is_old) {
            let detail = "devices are left after their deletion: our account lacks a permission";
            return Err(ClientError::Permission(failed(LIST, detail)));
        }
        Ok(deleted)
    }
}

/// Device in the list of all types.
#[derive(Deserialize)]
struct Record {
    pk: String,
    r#type: String,
    confirmed: bool,
    #[serde(default)]
    created: Option<String>,
}

/// Device in the list of its type.
#[derive(Deserialize)]
struct Owned {
    user: Option<Owner>,
}

#[derive(Deserialize)]
struct Owner {
    pk: i64,
}

impl From<Record> for MfaDevice {
    /// The type is a Python class with its module, whose spelling varies between endpoints.
    fn from(record: Record) -> Self {
        let class = record.r#type.rsplit('.').next().unwrap_or_default();
        let class = class.to_lowercase();
        let class = class.strip_suffix("device").unwrap_or(&class);
        // Part of a path.
        let class: String = class.chars().filter(char::is_ascii_alphanumeric).collect();
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        Self {
            kind: DeviceType::of_name(&class),
            confirmed: record.confirmed,
            id: record
                .pk
                .bytes()
                .filter(|byte| is_id(*byte))
                .map(char::from)
                .collect(),
            class,
            created: record
                .created
                .and_then(|at| DateTime::parse_rfc3339_str(at).ok()),
        }
    }
}
