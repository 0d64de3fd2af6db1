//! The grammar of cron expressions.

use proptest::prelude::*;

use crate::job::schedule::CronExpression;

proptest! {
    #[test]
    fn any_text_is_an_expression_or_refused_at_a_place_in_it(
        text in r"(@[a-z]{0,8}|([0-9*/,?L#W-]|MON|JAN|\u{e9}){0,6}( |\t)?){0,8}",
    ) {
        if let Err(error) = CronExpression::parse(&text) {
            prop_assert!(error.position <= text.len(), "{text:?}: {error}");
        }
    }
}

#[test]
fn an_expression_that_is_wrong_is_refused_with_the_place_of_the_fault() {
    for (text, position, part) in [
        ("", 0, "0 fields"),
        ("* * * *", 7, "4 fields"),
        ("* * * * * * *", 13, "7 fields"),
        ("60 * * * *", 0, "no minute; write 0 to 59"),
        ("0 24 * * *", 2, "no hour"),
        ("0  24 * * *", 3, "no hour"),
        ("0 0 0 * *", 4, "no day of the month"),
        ("0 0 1 13 *", 6, "no month"),
        ("0 0 1 FOO *", 6, "\"FOO\" is no month"),
        ("0 0 * * 8", 8, "no day of the week"),
        ("0,99 * * * *", 2, "no minute"),
        ("5-60 * * * *", 2, "no minute"),
        ("9-5 * * * *", 2, "before it begins"),
        ("*/0 * * * *", 2, "no step"),
        ("*/ * * * *", 2, "no step"),
        ("5/10 * * * *", 0, "write 5-59/STEP"),
        ("1,,2 * * * *", 2, "no minute"),
        ("+1 * * * *", 0, "no minute"),
        ("0 0 30 2 *", 4, "no month of \"2\" has such a day"),
        ("0 0 31 2,4,6,9,11 *", 4, "no month"),
        ("@often", 0, "there are @yearly"),
        ("0 0 \u{e4} * *", 4, "no day"),
        ("99999999999999999999 * * * *", 0, "no minute"),
    ] {
        let error = CronExpression::parse(text).expect_err(text);
        assert_eq!(error.position, position, "{text}: {error}");
        assert!(error.message.contains(part), "{text}: {error}");
    }
}

#[test]
fn one_meaning_may_be_written_in_several_ways() {
    let pattern = |text: &str| crate::job::cron::parse(text).expect(text);
    for (one, other) in [
        ("* * * * *", "0 * * * * *"),
        ("0 0 1 1 *", "@yearly"),
        ("0 0 * * 0", "0 0 * * 7"),
        ("0 0 * * SUN", "@weekly"),
        ("0 0 * * mon-fri", "0 0 * * 1-5"),
        ("0 0 * * FRI-SUN", "0 0 * * 0,5,6"),
        ("*/15 * * * *", "0,15,30,45 * * * *"),
        ("10-30/10 * * * *", "10,20,30 * * * *"),
        ("0 0 ? jan *", "0 0 * 1 *"),
        (" 0 0 * * * ", "@DAILY"),
        ("0 0 29 2 *", "0 0 29 FEB *"),
        // A weekday is enough, so the day that does not exist does no harm.
        ("0 0 30 2 1", "0 0 30 2 MON"),
    ] {
        assert_eq!(pattern(one), pattern(other), "{one} and {other}");
    }
}
