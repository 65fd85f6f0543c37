//! Fields of a partner.

use dezky_shared::{billing::BillingInfo, partner::ContactInfo};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{FieldPatch, Validator, Violation, billing, email, name};

/// Number of digits of a phone number. E.164 allows at most 15; shorter ones are not reachable internationally.
const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// Converts a margin in percent to hundredths of a percent.
pub fn margin(percent: f64) -> Result<i32, Violation> {
    if !(0.0..=100.0).contains(&percent) {
        return Err(("out_of_range", "Must be 0–100 percent.".to_owned()));
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most 10,000")]
    let hundredths = (percent * 100.0).round() as i32;
    #[expect(
        clippy::float_cmp,
        reason = "a number with two decimals is parsed as exactly this quotient"
    )]
    let is_exact = in_percent(hundredths) == percent;
    if is_exact {
        Ok(hundredths)
    } else {
        let message = "Must have at most two decimals.";
        Err(("too_many_decimals", message.to_owned()))
    }
}

/// Converts a margin in hundredths of a percent to percent.
pub fn in_percent(hundredths: i32) -> f64 {
    f64::from(hundredths) / 100.0
}

/// A phone number: E.164.
pub fn phone(text: &str) -> Result<String, Violation> {
    let phone = text.trim();
    let is_number = phone.strip_prefix('+').is_some_and(|digits| {
        DIGITS.contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    if is_number {
        Ok(phone.to_owned())
    } else {
        let message = "Must be an E.164 number such as +4512345678, with 7–15 digits.";
        Err(("invalid_phone", message.to_owned()))
    }
}

/// Contact of a partner. Missing fields stay; null removes.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = PartnerContactUpdate)]
pub struct ContactRequest {
    /// Name.
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 120)]
    name: FieldPatch<String>,
    /// E-mail address.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "email", max_length = 254)]
    email: FieldPatch<String>,
    /// Phone number (E.164).
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = r"^\+[1-9][0-9]{6,14}$", example = "+4512345678")]
    phone: FieldPatch<String>,
}

/// Validated patch of the contact.
#[derive(Debug, Default)]
pub struct ContactEdit(ContactRequest);

impl ContactEdit {
    /// Validates the fields below `/contactInfo`.
    pub fn check(validator: &mut Validator, raw: ContactRequest) -> Self {
        Self(ContactRequest {
            name: raw
                .name
                .check(validator, "/contactInfo/name", |text| name(&text)),
            email: raw
                .email
                .check(validator, "/contactInfo/email", |text| email(&text)),
            phone: raw
                .phone
                .check(validator, "/contactInfo/phone", |text| phone(&text)),
        })
    }

    /// Applies the patch.
    pub fn apply(&self, contact: &mut ContactInfo) {
        self.0.name.apply(&mut contact.name);
        self.0.email.apply(&mut contact.email);
        self.0.phone.apply(&mut contact.phone);
    }
}

/// Billing information of a partner. Missing fields stay; null removes.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = PartnerBillingUpdate)]
pub struct BillingRequest {
    /// Company name.
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 120)]
    company: FieldPatch<String>,
    /// VAT id, with country prefix.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 40, example = "DK13585628")]
    vat_id: FieldPatch<String>,
    /// Country (ISO 3166-1 alpha-2).
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z]{2}$", example = "DK")]
    country: FieldPatch<String>,
    /// E-mail address for invoices.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "email", max_length = 254)]
    email: FieldPatch<String>,
}

impl BillingRequest {
    /// The patch for a new partner, whose missing country is not a stored one.
    #[must_use]
    pub fn of_new(mut self) -> Self {
        if self.country == FieldPatch::Keep {
            self.country = FieldPatch::Remove;
        }
        self
    }
}

/// Validated patch of the billing information.
#[derive(Debug, Default)]
pub struct BillingEdit(BillingRequest);

impl BillingEdit {
    /// Validates the fields below `/billingInfo`. A VAT id without a country is checked on application, against the
    /// stored country.
    pub fn check(validator: &mut Validator, raw: BillingRequest) -> Self {
        let has_country = raw.country != FieldPatch::Keep;
        let country = raw
            .country
            .check(validator, "/billingInfo/country", |text| {
                billing::country(&text)
            });
        let country_code = match &country {
            FieldPatch::Set(country) => Some(country.as_str()),
            FieldPatch::Keep | FieldPatch::Remove => None,
        };
        let vat_id = if has_country {
            let vat_id = |text: String| billing::vat_id(country_code, &text);
            raw.vat_id.check(validator, "/billingInfo/vatId", vat_id)
        } else {
            raw.vat_id
        };
        Self(BillingRequest {
            company: raw
                .company
                .check(validator, "/billingInfo/company", |text| name(&text)),
            email: raw
                .email
                .check(validator, "/billingInfo/email", |text| email(&text)),
            vat_id,
            country,
        })
    }

    /// Applies the patch. Country and VAT id must match, even if only one of them changes.
    pub fn apply(&self, info: &mut BillingInfo) -> Result<(), Violation> {
        self.0.company.apply(&mut info.company);
        self.0.vat_id.apply(&mut info.vat_id);
        self.0.country.apply(&mut info.country);
        self.0.email.apply(&mut info.email);
        let changes_vat_or_country =
            self.0.vat_id != FieldPatch::Keep || self.0.country != FieldPatch::Keep;
        if let Some(vat_id) = &info.vat_id
            && changes_vat_or_country
        {
            info.vat_id = Some(billing::vat_id(info.country.as_deref(), vat_id)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn margins_with_two_decimals_round_trip(hundredths in 0..=10_000_i32) {
            let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);

            let percent: f64 = serde_json::from_str(&text).unwrap();

            prop_assert_eq!(margin(percent), Ok(hundredths));
            prop_assert_eq!(margin(in_percent(hundredths)), Ok(hundredths));
        }
    }

    #[test]
    fn a_margin_is_a_percentage_with_two_decimals() {
        let code = |percent: f64| margin(percent).unwrap_err().0;

        for percent in [12.345, 0.001, 0.1 + 0.2, 99.999_999, 1e-12] {
            assert_eq!(code(percent), "too_many_decimals", "{percent}");
        }
        for percent in [-0.01, 100.01, 1e300, f64::NAN, f64::INFINITY] {
            assert_eq!(code(percent), "out_of_range", "{percent}");
        }
        assert_eq!(margin(-0.0), Ok(0));
    }

    #[test]
    fn phone_numbers_include_the_country_code() {
        assert_eq!(phone(" +4512345678 ").unwrap(), "+4512345678");
        for bad in [
            "",
            "+",
            "12345678",
            "004512345678",
            "+0123456789",
            "+45 1234 5678",
            "+4512",
            "+1234567890123456",
        ] {
            assert!(phone(bad).is_err(), "{bad:?}");
        }
    }
}
