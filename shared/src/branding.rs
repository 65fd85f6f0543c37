//! Branding of a tenant's workspace and of the mail sent to its members.

use serde::{Deserialize, Serialize};

/// Relative luminance from which black has the higher contrast: √(1.05 × 0.05) − 0.05.
const LIGHT: f64 = 0.179_128_784_747_792;

/// Branding of a tenant's workspace. A missing field means our default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantBranding {
    /// Product name shown instead of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_name: Option<String>,
    /// Accent color, `#rrggbb`.
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

/// Text color with the higher contrast on `accent` (`#rrggbb`): black on light colors, white on dark ones. Black if
/// `accent` is not a color.
///
/// Contrast is that of [WCAG 2.2](https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio), from 1 to 21. The better of black
/// and white has at least 4.58, more than the 4.5 that text needs.
pub fn contrast_color(accent: &str) -> &'static str {
    match channels(accent).map(luminance) {
        Some(luminance) if luminance < LIGHT => "#ffffff",
        _ => "#000000",
    }
}

/// [Relative luminance](https://www.w3.org/TR/WCAG22/#dfn-relative-luminance), from 0 (black) to 1 (white).
fn luminance(channels: [u32; 3]) -> f64 {
    let [red, green, blue] = channels.map(|channel| {
        let channel = f64::from(channel) / 255.0;
        if channel <= 0.04045 {
            channel / 12.92
        } else {
            ((channel + 0.055) / 1.055).powf(2.4)
        }
    });
    0.2126 * red + 0.7152 * green + 0.0722 * blue
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
    fn text_is_black_on_light_colors_and_white_on_dark_ones() {
        for (accent, text) in [
            ("#000000", "#ffffff"),
            ("#ffffff", "#000000"),
            ("#ffff00", "#000000"),
            ("#0000ff", "#ffffff"),
            ("#ff0000", "#000000"),
            ("#00ff00", "#000000"),
            ("#00c000", "#000000"),
            ("#757575", "#ffffff"),
            ("#767676", "#000000"),
            ("#FFCC00", "#000000"),
        ] {
            assert_eq!(contrast_color(accent), text, "{accent}");
        }
    }

    proptest! {
        #[test]
        fn the_text_color_has_the_higher_contrast(red: u8, green: u8, blue: u8) {
            let accent = format!("#{red:02x}{green:02x}{blue:02x}");
            let luminance = luminance([red, green, blue].map(u32::from));
            let (on_black, on_white) = ((luminance + 0.05) / 0.05, 1.05 / (luminance + 0.05));

            let (chosen, other) = match contrast_color(&accent) {
                "#000000" => (on_black, on_white),
                _ => (on_white, on_black),
            };

            prop_assert!(chosen >= 4.5 && chosen >= other, "{accent}: {chosen}");
        }

        #[test]
        fn an_invalid_color_has_black_text(text in "[^#].*|#.{0,5}|#.{7,9}|#é0000") {
            prop_assert_eq!(contrast_color(&text), "#000000");
        }
    }
}
