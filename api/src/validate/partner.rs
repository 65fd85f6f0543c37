//! What is known about a partner, as callers give it.

use dezky_shared::{billing::BillingInfo, partner::ContactInfo};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{FieldPatch, Validator, Violation, billing, email, name};

/// The fewest and the most digits of a number. E.164 has at most 15; nothing shorter is reached from abroad.
const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// A margin in percent, as hundredths of a percent.
pub fn margin(percent: f64) -> Result<i32, Violation> {
    if !(0.0..=100.0).contains(&percent) {
        return Err(("out_of_range", "A margin is 0 to 100 percent.".to_owned()));
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most 10,000")]
    let hundredths = (percent * 100.0).round() as i32;
    #[expect(
        clippy::float_cmp,
        reason = "a number with two decimals is read as exactly this quotient"
    )]
    let is_exact = in_percent(hundredths) == percent;
    if is_exact {
        Ok(hundredths)
    } else {
        let message = "A margin has at most two decimals.";
        Err(("too_many_decimals", message.to_owned()))
    }
}

/// A margin in hundredths of a percent, as callers see it.
pub fn in_percent(hundredths: i32) -> f64 {
    f64::from(hundredths) / 100.0
}

/// A telephone number: E.164.
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
        let message =
            "A number is written as +4512345678: a plus, the country and 7 to 15 digits in all.";
        Err(("invalid_phone", message.to_owned()))
    }
}

/// Whom to talk to there. What is missing stays; null removes.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = PartnerContactInfo)]
pub struct ContactRequest {
    /// Their name.
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 120)]
    name: FieldPatch<String>,
    /// Their address.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "email", max_length = 254)]
    email: FieldPatch<String>,
    /// Their number, E.164.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = r"^\+[1-9][0-9]{6,14}$", example = "+4512345678")]
    phone: FieldPatch<String>,
}

/// A change of whom to talk to.
#[derive(Debug, Default)]
pub struct ContactEdit(ContactRequest);

impl ContactEdit {
    /// Takes the values, noting below `/contactInfo` what is wrong with them.
    pub fn check(checks: &mut Validator, wire: ContactRequest) -> Self {
        Self(ContactRequest {
            name: wire
                .name
                .check(checks, "/contactInfo/name", |text| name(&text)),
            email: wire
                .email
                .check(checks, "/contactInfo/email", |text| email(&text)),
            phone: wire
                .phone
                .check(checks, "/contactInfo/phone", |text| phone(&text)),
        })
    }

    /// Makes the change.
    pub fn apply(&self, contact: &mut ContactInfo) {
        self.0.name.apply(&mut contact.name);
        self.0.email.apply(&mut contact.email);
        self.0.phone.apply(&mut contact.phone);
    }
}

/// Where it is billed. What is missing stays; null removes.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = PartnerBillingInfo)]
pub struct BillingRequest {
    /// The company.
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 120)]
    company: FieldPatch<String>,
    /// Its VAT id, in its country's form.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 40, example = "DK13585628")]
    vat_id: FieldPatch<String>,
    /// ISO 3166-1 alpha-2.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z]{2}$", example = "DK")]
    country: FieldPatch<String>,
    /// Where invoices go.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "email", max_length = 254)]
    email: FieldPatch<String>,
}

impl BillingRequest {
    /// The same for a partner of which nothing is stored yet: a missing country is none.
    #[must_use]
    pub fn of_new(mut self) -> Self {
        if self.country == FieldPatch::Keep {
            self.country = FieldPatch::Remove;
        }
        self
    }
}

/// A change of where it is billed.
#[derive(Debug, Default)]
pub struct BillingEdit(BillingRequest);

impl BillingEdit {
    /// Takes the values, noting below `/billingInfo` what is wrong with them. A VAT id that comes without a country is
    /// of the stored one, which is not known here.
    pub fn check(checks: &mut Validator, wire: BillingRequest) -> Self {
        let comes_with_country = wire.country != FieldPatch::Keep;
        let country = wire.country.check(checks, "/billingInfo/country", |text| {
            billing::country(&text)
        });
        let of = match &country {
            FieldPatch::Set(country) => Some(country.as_str()),
            FieldPatch::Keep | FieldPatch::Remove => None,
        };
        let vat_id = if comes_with_country {
            let vat_id = |text: String| billing::vat_id(of, &text);
            wire.vat_id.check(checks, "/billingInfo/vatId", vat_id)
        } else {
            wire.vat_id
        };
        Self(BillingRequest {
            company: wire
                .company
                .check(checks, "/billingInfo/company", |text| name(&text)),
            email: wire
                .email
                .check(checks, "/billingInfo/email", |text| email(&text)),
            vat_id,
            country,
        })
    }

    /// Makes the change. Country and VAT id have to go together, also where one of them stays as it was.
    pub fn apply(&self, info: &mut BillingInfo) -> Result<(), Violation> {
        self.0.company.apply(&mut info.company);
        self.0.vat_id.apply(&mut info.vat_id);
        self.0.country.apply(&mut info.country);
        self.0.email.apply(&mut info.email);
        let is_concerned = self.0.vat_id != FieldPatch::Keep || self.0.country != FieldPatch::Keep;
        if let Some(vat_id) = &info.vat_id
            && is_concerned
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
        fn every_margin_with_two_decimals_is_taken_as_it_is_written(hundredths in 0..=10_000_i32) {
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
    fn a_number_is_written_with_its_country() {
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
