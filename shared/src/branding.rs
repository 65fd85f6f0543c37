//! Branding of a tenant's workspace and of the mail sent to its members.

use serde::{Deserialize, Serialize};

/// YIQ brightness from which a colour counts as light: the middle between black and white.
const LIGHT: u32 = 128;

/// Branding of a tenant's workspace. A missing field means our default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantBranding {
    /// Product name shown instead of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_name: Option<String>,
    /// Accent colour, `#rrggbb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accent_color: Option<String>,
    /// Logo URL, https only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logo_url: Option<String>,
    /// Replacements for our default mail texts.
    #[serde(default)]
    pub email_templates: EmailTemplates,
}

/// Custom mail texts, for each kind of mail.
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

/// Text of a mail. `{{name}}` is a placeholder that is filled in when the mail is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailText {
    /// Subject.
    pub subject: String,
    /// Body, plain text.
    pub body: String,
}

/// Kind of mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmailTemplate {
    /// Invitation to join.
    Invite,
    /// Welcome after joining.
    Welcome,
    /// Account recovery.
    Recovery,
}

impl EmailTemplate {
    /// Placeholders allowed between `{{` and `}}` in subject and body.
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

/// Text colour with the higher contrast on `accent` (`#rrggbb`): black on light colours, white on dark ones. Black if
/// `accent` is not a colour.
///
/// The brightness of a colour is its Y in YIQ: (299 R + 587 G + 114 B) / 1000, from 0 to 255, as in W3C's [Techniques
/// For Accessibility Evaluation And Repair Tools](https://www.w3.org/TR/AERT/#color-contrast), 2.2. A colour counts as
/// light from 128, the middle of the range, so the text colour is always the more distant of the two.
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
        fn the_text_colour_is_the_more_distant_of_the_two(red: u8, green: u8, blue: u8) {
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
        fn an_invalid_colour_has_black_text(text in "[^#].*|#.{0,5}|#.{7,9}|#é0000") {
            prop_assert_eq!(contrast_color(&text), "#000000");
        }
    }
}
