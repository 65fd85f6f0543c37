//! Second factors (MFA) of people, as a job last looked them up at the identity provider.

use std::collections::BTreeMap;

use bson::DateTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::TenantId;

/// Type of an MFA device.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
#[schema(as = MfaDeviceType)]
pub enum DeviceType {
    /// Time-based one-time passwords of an authenticator app.
    Totp,
    /// Passkeys and security keys.
    Webauthn,
    /// Duo push.
    Duo,
    /// Codes by SMS.
    Sms,
    /// Codes by e-mail.
    Email,
    /// Recovery codes, which are not a second factor.
    Static,
    /// Any other type, such as an endpoint device.
    #[serde(other)]
    Other,
}

impl DeviceType {
    /// Every type.
    pub const ALL: [Self; 7] = [
        Self::Totp,
        Self::Webauthn,
        Self::Duo,
        Self::Sms,
        Self::Email,
        Self::Static,
        Self::Other,
    ];

    /// Name in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Webauthn => "webauthn",
            Self::Duo => "duo",
            Self::Sms => "sms",
            Self::Email => "email",
            Self::Static => "static",
            Self::Other => "other",
        }
    }

    /// The type with this name.
    pub fn of_name(name: &str) -> Self {
        let mut known = Self::ALL.into_iter();
        known
            .find(|kind| kind.name() == name)
            .unwrap_or(Self::Other)
    }

    /// Whether a device of this type is a second factor.
    pub const fn is_second_factor(self) -> bool {
        !matches!(self, Self::Static)
    }
}

/// Whether a person has a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = MfaEnrolment)]
pub enum Enrolment {
    /// At least one confirmed second factor.
    Yes,
    /// None.
    No,
    /// Not looked up, or none is visible and our account may not see every type.
    Unknown,
}

/// Result of a look-up of a person's devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MfaCheck {
    /// Number of confirmed second factors.
    pub devices: i32,
    /// Number of confirmed devices by type, recovery codes included. Missing in checks of earlier builds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_type: BTreeMap<DeviceType, i32>,
    /// Whether our account could see devices of every type. `None` in checks of earlier builds, which did not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_visible: Option<bool>,
    /// Time of the look-up.
    pub looked_up_at: DateTime,
}

impl MfaCheck {
    /// The check of these confirmed devices.
    pub fn of(
        devices: impl IntoIterator<Item = DeviceType>,
        all_visible: bool,
        looked_up_at: DateTime,
    ) -> Self {
        let mut check = Self {
            devices: 0,
            by_type: BTreeMap::new(),
            all_visible: Some(all_visible),
            looked_up_at,
        };
        for kind in devices {
            check.devices += i32::from(kind.is_second_factor());
            *check.by_type.entry(kind).or_default() += 1;
        }
        check
    }

    /// Whether the person has a second factor. A device that was seen proves it; that none was seen proves nothing unless
    /// all could be seen.
    pub fn enrolment(&self) -> Enrolment {
        match (self.devices, self.all_visible) {
            (1.., _) => Enrolment::Yes,
            (_, Some(true)) => Enrolment::No,
            _ => Enrolment::Unknown,
        }
    }
}

/// Totals of the people of a tenant, as of its last complete look-up. One per tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MfaReport {
    /// Tenant.
    #[serde(rename = "_id")]
    pub tenant_id: TenantId,
    /// Time at which the look-up began.
    pub as_of: DateTime,
    /// Totals.
    #[serde(flatten)]
    pub totals: MfaTotals,
}

/// Number of people by enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MfaTotals {
    /// People with a second factor.
    pub enrolled: i64,
    /// People without one.
    pub not_enrolled: i64,
    /// People whose enrolment is not known.
    pub unknown: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(devices: &[DeviceType], all_visible: bool) -> MfaCheck {
        let now = DateTime::from_millis(0);
        MfaCheck::of(devices.iter().copied(), all_visible, now)
    }

    #[test]
    fn recovery_codes_are_no_second_factor_and_an_unseen_device_is_not_none() {
        use DeviceType::{Static, Totp, Webauthn};
        for (devices, all_visible, count, enrolment) in [
            (&[Totp, Webauthn, Static][..], true, 2, Enrolment::Yes),
            (&[Totp], false, 1, Enrolment::Yes),
            (&[Static], true, 0, Enrolment::No),
            (&[Static], false, 0, Enrolment::Unknown),
            (&[], true, 0, Enrolment::No),
            (&[], false, 0, Enrolment::Unknown),
        ] {
            let check = check(devices, all_visible);

            assert_eq!(
                (check.devices, check.enrolment()),
                (count, enrolment),
                "{devices:?}"
            );
        }
    }

    #[test]
    fn a_check_of_an_earlier_build_without_devices_is_unknown() {
        let stored = bson::doc! { "devices": 0, "lookedUpAt": DateTime::from_millis(0) };

        let check: MfaCheck = bson::deserialize_from_document(stored).unwrap();

        assert_eq!(check.enrolment(), Enrolment::Unknown);
    }

    #[test]
    fn device_types_are_stored_by_name_and_unknown_ones_are_other() {
        for kind in DeviceType::ALL {
            let stored = bson::serialize_to_bson(&kind).unwrap();
            assert_eq!(stored, kind.name().into());
        }
        let newer: DeviceType = bson::deserialize_from_bson("fido".into()).unwrap();
        assert_eq!(newer, DeviceType::Other);
        assert_eq!(DeviceType::of_name("webauthn"), DeviceType::Webauthn);
        assert_eq!(DeviceType::of_name("fido"), DeviceType::Other);
        let stored = bson::serialize_to_document(&check(&[DeviceType::Totp], true)).unwrap();
        assert_eq!(
            stored.get_document("byType").unwrap(),
            &bson::doc! { "totp": 1 }
        );
    }
}
