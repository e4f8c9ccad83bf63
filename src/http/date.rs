//! Dates as HTTP and the logs write them, from a count of seconds since 1970. Always UTC.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// A second of the Gregorian calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    /// The year.
    pub year: u64,
    /// The month, 1 to 12.
    pub month: u64,
    /// The day of the month, 1 to 31.
    pub day: u64,
    /// The day of the year, 1 to 366.
    pub day_of_year: u64,
    /// The day of the week, 0 (Sunday) to 6.
    pub weekday: u64,
    /// The hour, 0 to 23.
    pub hour: u64,
    /// The minute, 0 to 59.
    pub minute: u64,
    /// The second, 0 to 59.
    pub second: u64,
}

impl Date {
    /// The date that is `unix_seconds` after the beginning of 1970.
    pub fn from_unix(unix_seconds: u64) -> Self {
        const DAY: u64 = 86_400;
        // Days from the first of March of year 0 to 1970: years then end with their leap day, and every 400 of them
        // have the same number of days.
        const TO_1970: u64 = 719_468;
        const ERA: u64 = 146_097;
        let days = unix_seconds / DAY;
        let since_year_0 = days + TO_1970;
        let day_of_era = since_year_0 % ERA;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // The months from March to January have 153 days in five, and the fraction falls right.
        let month_from_march = (5 * from_march + 2) / 153;
        let day = from_march - (153 * month_from_march + 2) / 5 + 1;
        let march_year = since_year_0 / ERA * 400 + year_of_era;
        let (year, month, day_of_year) = if month_from_march < 10 {
            let before_march = 59 + u64::from(is_leap(march_year));
            (
                march_year,
                month_from_march + 3,
                before_march + from_march + 1,
            )
        } else {
            const MARCH_TO_DECEMBER: u64 = 306;
            (
                march_year + 1,
                month_from_march - 9,
                from_march - MARCH_TO_DECEMBER + 1,
            )
        };
        let time = unix_seconds % DAY;
        Self {
            year,
            month,
            day,
            day_of_year,
            weekday: (days + 4) % 7,
            hour: time / 3_600,
            minute: time / 60 % 60,
            second: time % 60,
        }
    }

    /// The English name of the month.
    pub fn month_name(&self) -> &'static str {
        named(&MONTHS, self.month.saturating_sub(1))
    }

    /// The English name of the day of the week.
    pub fn weekday_name(&self) -> &'static str {
        named(&WEEKDAYS, self.weekday)
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// The first three letters of a name of a month or a weekday.
pub fn short(name: &str) -> &str {
    name.get(..3).unwrap_or(name)
}

fn named(names: &[&'static str], place: u64) -> &'static str {
    usize::try_from(place)
        .ok()
        .and_then(|place| names.get(place))
        .copied()
        .unwrap_or_default()
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7).
pub fn imf_fixdate(unix_seconds: u64) -> String {
    let date = Date::from_unix(unix_seconds);
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        short(date.weekday_name()),
        date.day,
        short(date.month_name()),
        date.year,
        date.hour,
        date.minute,
        date.second
    )
}

/// `[10/Oct/2000:13:55:36 +0000]` (httpd `%t`).
pub fn common_log(unix_seconds: u64) -> String {
    let date = Date::from_unix(unix_seconds);
    format!(
        "[{:02}/{}/{:04}:{:02}:{:02}:{:02} +0000]",
        date.day,
        short(date.month_name()),
        date.year,
        date.hour,
        date.minute,
        date.second
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_the_documents_write_them() {
        assert_eq!(imf_fixdate(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(common_log(971_186_136), "[10/Oct/2000:13:55:36 +0000]");
        assert_eq!(imf_fixdate(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn leap_days_and_turns_of_years() {
        for (seconds, year, month, day, day_of_year) in [
            (951_782_399, 2000, 2, 28, 59),
            (951_782_400, 2000, 2, 29, 60),
            (951_868_800, 2000, 3, 1, 61),
            (978_220_800, 2000, 12, 31, 366),
            (978_307_200, 2001, 1, 1, 1),
            (983_318_400, 2001, 2, 28, 59),
            (983_404_800, 2001, 3, 1, 60),
            (4_107_542_400, 2100, 3, 1, 60),
            (68_169_600, 1972, 2, 29, 60),
        ] {
            let date = Date::from_unix(seconds);
            assert_eq!(
                (date.year, date.month, date.day, date.day_of_year),
                (year, month, day, day_of_year),
                "{seconds}"
            );
        }
    }

    #[test]
    fn every_day_follows_the_day_before() {
        let mut before = Date::from_unix(0);
        for day in 1..200_000 {
            let date = Date::from_unix(day * 86_400);
            assert_eq!(date.weekday, (before.weekday + 1) % 7);
            if date.day == 1 {
                assert_eq!(date.month, before.month % 12 + 1, "{before:?} {date:?}");
                assert!((28..=31).contains(&before.day));
            } else {
                assert_eq!((date.month, date.day), (before.month, before.day + 1));
            }
            if date.year == before.year {
                assert_eq!(date.day_of_year, before.day_of_year + 1);
            } else {
                assert_eq!((date.year, date.day_of_year), (before.year + 1, 1));
            }
            before = date;
        }
    }

    #[test]
    fn no_count_of_seconds_panics() {
        for seconds in [u64::MAX, u64::MAX - 1, u64::MAX / 2, u64::MAX / 86_400] {
            assert!(!imf_fixdate(seconds).is_empty());
            assert!(!common_log(seconds).is_empty());
        }
    }
}
