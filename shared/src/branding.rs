//! How a workspace looks to its people, and how the mail that they are sent reads.

use serde::{Deserialize, Serialize};

/// Above which brightness a colour is a light one: the middle between black and white.
const LIGHT: u32 = 128;

/// How a tenant's workspace looks. Where nothing is said, it looks like ours.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantBranding {
    /// The name that stands for ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_name: Option<String>,
    /// `#rrggbb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accent_color: Option<String>,
    /// Where the logo is: https only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logo_url: Option<String>,
    /// The mail that reads otherwise than ours.
    #[serde(default)]
    pub email_templates: EmailTemplates,
}

/// The texts that stand for ours, for each kind of mail.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmailTemplates {
    /// [`EmailTemplate::Invite`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<EmailText>,
    /// [`EmailTemplate::Welcome`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub welcome: Option<EmailText>,
    /// [`EmailTemplate::Recovery`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<EmailText>,
}

/// The text of a mail. `{{name}}` stands for what is known only when it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailText {
    /// Its subject.
    pub subject: String,
    /// Its body, plain text.
    pub body: String,
}

/// A kind of mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmailTemplate {
    /// Somebody is asked to join.
    Invite,
    /// Somebody has joined.
    Welcome,
    /// Somebody wants to sign in again.
    Recovery,
}

impl EmailTemplate {
    /// What may stand between `{{` and `}}` in its subject and body.
    pub const fn placeholders(self) -> &'static [&'static str] {
        match self {
            Self::Invite => &[
                "name",
                "email",
                "productName",
                "tenantName",
                "inviterName",
                "link",
                "expiresAt",
            ],
            Self::Welcome => &["name", "email", "productName", "tenantName", "loginUrl"],
            Self::Recovery => &[
                "name",
                "email",
                "productName",
                "tenantName",
                "link",
                "expiresAt",
            ],
        }
    }
}

/// The colour of text that can be read on `accent` (`#rrggbb`): black on light colours, white on dark ones. On
/// anything else, which is no colour, black.
///
/// The brightness of a colour is its Y in YIQ: (299 R + 587 G + 114 B) / 1000, from 0 to 255, as in W3C's
/// [Techniques For Accessibility Evaluation And Repair Tools](https://www.w3.org/TR/AERT/#color-contrast), 2.2. From
/// 128, the middle of that range, a colour counts as light, so that the text is always the one of the two that is
/// further away from it.
pub fn contrast_color(accent: &str) -> &'static str {
    let brightness =
        channels(accent).map(|[red, green, blue]| (299 * red + 587 * green + 114 * blue) / 1_000);
    match brightness {
        Some(brightness) if brightness < LIGHT => "#ffffff",
        _ => "#000000",
    }
}

fn channels(color: &str) -> Option<[u32; 3]> {
    let digits = color.strip_prefix('#')?;
    if digits.len() != 6 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let rgb = u32::from_str_radix(digits, 16).ok()?;
    Some([rgb >> 16, rgb >> 8 & 0xff, rgb & 0xff])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_black_on_light_colours_and_white_on_dark_ones() {
        for (accent, text) in [
            ("#000000", "#ffffff"),
            ("#ffffff", "#000000"),
            ("#ffff00", "#000000"),
            ("#0000ff", "#ffffff"),
            ("#ff0000", "#ffffff"),
            ("#00ff00", "#000000"),
            ("#7f7f7f", "#ffffff"),
            ("#808080", "#000000"),
            ("#FFCC00", "#000000"),
        ] {
            assert_eq!(contrast_color(accent), text, "{accent}");
        }
    }

    proptest! {
        #[test]
        fn the_text_is_the_one_of_the_two_that_is_further_away(red: u8, green: u8, blue: u8) {
            let accent = format!("#{red:02x}{green:02x}{blue:02x}");
            let brightness =
                (299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue)) / 1_000;

            let to_text = match contrast_color(&accent) {
                "#000000" => brightness,
                _ => 255 - brightness,
            };

            prop_assert!(to_text >= 128, "{accent}");
        }

        #[test]
        fn what_is_no_colour_has_black_text(text in "[^#].*|#.{0,5}|#.{7,9}|#é0000") {
            prop_assert_eq!(contrast_color(&text), "#000000");
        }
    }
}
