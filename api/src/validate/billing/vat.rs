//! Formats and check digits of VAT ids by country.
//!
//! The formats are those of the European Commission's [VIES](https://ec.europa.eu/taxation_customs/vies/#/faq), of HMRC,
//! Brønnøysundregistrene and the Swiss Federal Statistical Office. Check digits are verified if the algorithm is public
//! and applies to all ids of the format.

/// VAT id format of a country.
pub(super) struct Form {
    /// ISO 3166-1 alpha-2 code.
    pub(super) country: &'static str,
    /// Prefix of the ids.
    pub(super) prefix: &'static str,
    /// A well-formed example.
    pub(super) example: &'static str,
    /// Whether the part after the prefix is well-formed.
    pub(super) is_number: fn(&str) -> bool,
}

const fn form(
    country: &'static str,
    prefix: &'static str,
    example: &'static str,
    is_number: fn(&str) -> bool,
) -> Form {
    Form {
        country,
        prefix,
        example,
        is_number,
    }
}

/// EU member states, the United Kingdom, Norway and Switzerland.
pub(super) const FORMS: &[Form] = &[
    form("AT", "AT", "ATU13585627", austria),
    form("BE", "BE", "BE0428759497", belgium),
    form("BG", "BG", "BG175074752", bulgaria),
    form("CH", "CHE", "CHE107787577MWST", switzerland),
    form("CY", "CY", "CY10259033P", cyprus),
    form("CZ", "CZ", "CZ25123891", czechia),
    form("DE", "DE", "DE136695976", germany),
    form("DK", "DK", "DK13585628", denmark),
    form("EE", "EE", "EE100931558", estonia),
    form("ES", "ES", "ESB58378431", spain),
    form("FI", "FI", "FI20774740", finland),
    form("FR", "FR", "FR40303265045", france),
    form("GB", "GB", "GB980780684", united_kingdom),
    form("GB", "XI", "XI980780684", united_kingdom),
    form("GR", "EL", "EL094259216", greece),
    form("HR", "HR", "HR33392005961", croatia),
    form("HU", "HU", "HU12892312", hungary),
    form("IE", "IE", "IE6433435F", ireland),
    form("IT", "IT", "IT00743110157", italy),
    form("LT", "LT", "LT119511515", lithuania),
    form("LU", "LU", "LU15027442", luxembourg),
    form("LV", "LV", "LV40003521600", latvia),
    form("MT", "MT", "MT11679112", malta),
    form("NL", "NL", "NL004495445B01", netherlands),
    form("NO", "NO", "NO995525828MVA", norway),
    form("PL", "PL", "PL8567346215", poland),
    form("PT", "PT", "PT501964843", portugal),
    form("RO", "RO", "RO18547290", romania),
    form("SE", "SE", "SE123456789701", sweden),
    form("SI", "SI", "SI50223054", slovenia),
    form("SK", "SK", "SK2022749619", slovakia),
];

fn austria(number: &str) -> bool {
    number
        .strip_prefix('U')
        .and_then(digits::<8>)
        .is_some_and(|all| {
            let [d @ .., check] = all;
            let doubled = |digit: u64| digit * 2 / 10 + digit * 2 % 10;
            let sum = d[0] + d[2] + d[4] + d[6] + doubled(d[1]) + doubled(d[3]) + doubled(d[5]);
            (sum + 4 + check).is_multiple_of(10)
        })
}

fn belgium(number: &str) -> bool {
    digits::<10>(number).is_some_and(|d| d[0] <= 1 && value(&d[..8]) % 97 + value(&d[8..]) == 97)
}

fn bulgaria(number: &str) -> bool {
    are_digits(number) && matches!(number.len(), 9 | 10)
}

fn switzerland(number: &str) -> bool {
    let (number, tax) = number.split_at_checked(9).unwrap_or((number, ""));
    let is_tax = matches!(tax, "" | "MWST" | "TVA" | "IVA" | "TPV");
    is_tax
        && digits::<9>(number)
            .is_some_and(|d| weighted_sum(&d, &[5, 4, 3, 2, 7, 6, 5, 4, 1]).is_multiple_of(11))
}

fn cyprus(number: &str) -> bool {
    number
        .strip_suffix(|last: char| last.is_ascii_uppercase())
        .is_some_and(|number| digits::<8>(number).is_some())
}

fn czechia(number: &str) -> bool {
    are_digits(number) && (8..=10).contains(&number.len())
}

fn germany(number: &str) -> bool {
    digits::<9>(number).is_some_and(|d| d[0] != 0 && is_iso_7064(&d))
}

fn denmark(number: &str) -> bool {
    digits::<8>(number).is_some_and(|d| {
        d[0] != 0 && weighted_sum(&d, &[2, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11)
    })
}

fn estonia(number: &str) -> bool {
    digits::<9>(number)
        .is_some_and(|d| weighted_sum(&d, &[3, 7, 1, 3, 7, 1, 3, 7, 1]).is_multiple_of(10))
}

fn spain(number: &str) -> bool {
    let is_sign = |sign: &str| are_digits(sign) || sign.bytes().all(|b| b.is_ascii_uppercase());
    number.len() == 9
        && is_sign(&number[..1])
        && are_digits(&number[1..8])
        && is_sign(&number[8..])
        && !are_digits(number)
}

fn finland(number: &str) -> bool {
    digits::<8>(number)
        .is_some_and(|d| weighted_sum(&d, &[7, 9, 10, 5, 8, 4, 2, 1]).is_multiple_of(11))
}

/// Two check characters and the company number.
fn france(number: &str) -> bool {
    let Some((key, company)) = number.split_at_checked(2) else {
        return false;
    };
    let Some(company) = digits::<9>(company) else {
        return false;
    };
    let is_allowed = |sign: u8| sign.is_ascii_alphanumeric() && sign != b'O' && sign != b'I';
    match digits::<2>(key) {
        Some(key) => value(&key) == (12 + 3 * (value(&company) % 97)) % 97,
        None => key.bytes().all(is_allowed),
    }
}

/// Of a company, a branch (three more digits), a government department or a health authority.
fn united_kingdom(number: &str) -> bool {
    if let Some((kind @ ("GD" | "HA"), number)) = number.split_at_checked(2) {
        return digits::<3>(number).is_some_and(|d| (value(&d) < 500) == (kind == "GD"));
    }
    if !are_digits(number) || !matches!(number.len(), 9 | 12) {
        return false;
    }
    digits::<9>(&number[..9]).is_some_and(|d| {
        let sum = weighted_sum(&d[..7], &[8, 7, 6, 5, 4, 3, 2]) + value(&d[7..]);
        sum.is_multiple_of(97) || (sum + 55).is_multiple_of(97)
    })
}

fn greece(number: &str) -> bool {
    digits::<9>(number)
        .is_some_and(|d| weighted_sum(&d[..8], &[256, 128, 64, 32, 16, 8, 4, 2]) % 11 % 10 == d[8])
}

fn croatia(number: &str) -> bool {
    digits::<11>(number).is_some_and(|d| is_iso_7064(&d))
}

fn hungary(number: &str) -> bool {
    digits::<8>(number)
        .is_some_and(|d| weighted_sum(&d, &[9, 7, 3, 1, 9, 7, 3, 1]).is_multiple_of(10))
}

/// Seven digits and one or two letters. Older ids have a letter, plus or asterisk in second place.
fn ireland(number: &str) -> bool {
    let is_letter = |sign: u8| sign.is_ascii_uppercase();
    match number.as_bytes() {
        [old @ .., last] if old.len() == 7 => {
            let is_second = |sign: u8| sign.is_ascii_alphanumeric() || sign == b'+' || sign == b'*';
            old[0].is_ascii_digit()
                && is_second(old[1])
                && old[2..].iter().all(u8::is_ascii_digit)
                && is_letter(*last)
        }
        [seven @ .., one, two] if seven.len() == 7 => {
            seven.iter().all(u8::is_ascii_digit) && is_letter(*one) && is_letter(*two)
        }
        _ => false,
    }
}

fn italy(number: &str) -> bool {
    digits::<11>(number).is_some_and(|d| is_luhn(&d))
}

fn lithuania(number: &str) -> bool {
    are_digits(number) && matches!(number.len(), 9 | 12)
}

fn luxembourg(number: &str) -> bool {
    digits::<8>(number).is_some_and(|d| value(&d[..6]) % 89 == value(&d[6..]))
}

fn latvia(number: &str) -> bool {
    digits::<11>(number).is_some()
}

fn malta(number: &str) -> bool {
    digits::<8>(number)
        .is_some_and(|d| weighted_sum(&d, &[3, 4, 6, 7, 8, 9, 10, 1]).is_multiple_of(37))
}

/// Modulo 11 over the digits. Since 2020, ids of sole traders use modulo 97 over the whole id instead.
fn netherlands(number: &str) -> bool {
    let Some((company, branch)) = number.split_once('B') else {
        return false;
    };
    let (Some(d), Some(_)) = (digits::<9>(company), digits::<2>(branch)) else {
        return false;
    };
    let by_company = weighted_sum(&d[..8], &[9, 8, 7, 6, 5, 4, 3, 2]) % 11 == d[8];
    by_company || remainder_of_97("NL", number) == Some(1)
}

/// Remainder modulo 97, with A as 10, B as 11 and so on.
fn remainder_of_97(prefix: &str, number: &str) -> Option<u32> {
    prefix
        .chars()
        .chain(number.chars())
        .try_fold(0, |remainder, sign| {
            let value = sign.to_digit(36)?;
            let shift = if value < 10 { 10 } else { 100 };
            Some((remainder * shift + value) % 97)
        })
}

fn norway(number: &str) -> bool {
    let number = number.strip_suffix("MVA").unwrap_or(number);
    digits::<9>(number)
        .is_some_and(|d| weighted_sum(&d, &[3, 2, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11))
}

fn poland(number: &str) -> bool {
    digits::<10>(number)
        .is_some_and(|d| weighted_sum(&d[..9], &[6, 5, 7, 2, 3, 4, 5, 6, 7]) % 11 == d[9])
}

fn portugal(number: &str) -> bool {
    digits::<9>(number).is_some_and(|d| {
        let check = 11 - weighted_sum(&d[..8], &[9, 8, 7, 6, 5, 4, 3, 2]) % 11;
        d[0] != 0 && check % 11 % 10 == d[8]
    })
}

/// Two to ten digits, padded with leading zeros.
fn romania(number: &str) -> bool {
    (2..=10).contains(&number.len())
        && digits::<10>(&format!("{number:0>10}")).is_some_and(|d| {
            weighted_sum(&d[..9], &[7, 5, 3, 2, 1, 7, 5, 3, 2]) * 10 % 11 % 10 == d[9]
        })
}

fn sweden(number: &str) -> bool {
    digits::<12>(number).is_some_and(|d| is_luhn(&d[..10]) && (1..=94).contains(&value(&d[10..])))
}

fn slovenia(number: &str) -> bool {
    digits::<8>(number).is_some_and(|d| {
        let check = 11 - weighted_sum(&d[..7], &[8, 7, 6, 5, 4, 3, 2]) % 11;
        d[0] != 0 && check != 11 && check % 10 == d[7]
    })
}

fn slovakia(number: &str) -> bool {
    digits::<10>(number).is_some_and(|d| d[0] != 0 && value(&d).is_multiple_of(11))
}

fn are_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses exactly `N` digits.
fn digits<const N: usize>(text: &str) -> Option<[u64; N]> {
    let digit = |sign: char| sign.to_digit(10).map(u64::from);
    let digits: Option<Vec<u64>> = text.chars().map(digit).collect();
    digits?.try_into().ok()
}

/// Value of the digits as a decimal number.
fn value(digits: &[u64]) -> u64 {
    digits.iter().fold(0, |value, digit| value * 10 + digit)
}

/// Weighted sum of the digits.
fn weighted_sum(digits: &[u64], weights: &[u64]) -> u64 {
    digits
        .iter()
        .zip(weights)
        .map(|(digit, weight)| digit * weight)
        .sum()
}

/// ISO/IEC 7064, MOD 11,10.
fn is_iso_7064(digits: &[u64]) -> bool {
    let Some((check, digits)) = digits.split_last() else {
        return false;
    };
    let product = digits.iter().fold(10, |product, digit| {
        let sum = match (product + digit) % 10 {
            0 => 10,
            sum => sum,
        };
        sum * 2 % 11
    });
    (product + check) % 10 == 1
}

/// ISO/IEC 7812-1, annex B.
fn is_luhn(digits: &[u64]) -> bool {
    let weight = |(position, digit): (usize, &u64)| {
        if position % 2 == 0 {
            *digit
        } else {
            digit * 2 / 10 + digit * 2 % 10
        }
    };
    let sum: u64 = digits.iter().rev().enumerate().map(weight).sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `id` matches the format of a country with its prefix.
    fn is_valid(id: &str) -> bool {
        let forms = FORMS.iter();
        forms
            .filter_map(|form| Some((form, id.strip_prefix(form.prefix)?)))
            .any(|(form, number)| (form.is_number)(number))
    }

    /// Countries without verification of check digits.
    const WITHOUT_CHECK_DIGITS: [&str; 7] = ["BG", "CY", "CZ", "ES", "IE", "LT", "LV"];

    #[test]
    fn every_example_is_well_formed_and_its_half_is_not() {
        for form in FORMS {
            let Form {
                country, example, ..
            } = form;
            assert!(example.starts_with(form.prefix), "{country}");
            assert!(is_valid(example), "{country}");
            let half = &example[..example.len() / 2];
            assert!(!is_valid(half), "{half}");
            assert!(!is_valid(&format!("{example}0123")), "{country}");
        }
    }

    #[test]
    fn a_wrong_digit_is_detected_in_every_country_with_check_digits() {
        for form in FORMS {
            let checked = !WITHOUT_CHECK_DIGITS.contains(&form.country);
            let digits = form.example.char_indices();
            let (at, digit) = digits.filter(|(_, c)| c.is_ascii_digit()).nth(2).unwrap();
            let value = digit.to_digit(10).unwrap();
            let other = char::from_digit((value + 1) % 10, 10).unwrap();
            let mut wrong = form.example.to_owned();
            wrong.replace_range(at..=at, &other.to_string());

            assert_eq!(is_valid(&wrong), !checked, "{wrong}");
        }
    }

    #[test]
    fn all_formats_of_a_country_are_accepted() {
        for id in [
            "NL002455799B11",
            "GB980780684001",
            "GBGD123",
            "GBHA512",
            "IE6433435OA",
            "IE8D79739I",
            "IE8+79739I",
            "CHE107787577",
            "NO995525828",
            "FRK7399859412",
            "BG7523169263",
            "CZ7103192745",
            "ESX2482300W",
            "LT100001919017",
            "RO361757",
        ] {
            assert!(is_valid(id), "{id}");
        }
        for id in [
            "GBGD512",
            "GBHA123",
            "FROI399859412",
            "ES123456789",
            "NL004495445C01",
            "SE123456789795",
            "SE123456789700",
            "DE036695976",
            "BE2428759497",
            "CHE107787577XYZ",
        ] {
            assert!(!is_valid(id), "{id}");
        }
    }
}
