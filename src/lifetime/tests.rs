use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;

/// 2026-01-01 00:00:00.
const ANSWERED: Duration = Duration::from_secs(1_767_225_600);

fn at(seconds: i64) -> SystemTime {
    let answered = SystemTime::UNIX_EPOCH + ANSWERED;
    let shift = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { answered - shift } else { answered + shift }
}

fn date(seconds: i64) -> String {
    httpdate::fmt_http_date(at(seconds))
}

fn read(fields: &[(&str, &str)]) -> Lifetime {
    let fields = fields.iter().map(|(name, value)| (*name, value.as_bytes()));
    Lifetime::read(fields, at(0), at(0))
}

/// What a Cache-Control field alone makes of a lifetime.
fn control(value: &str) -> Lifetime {
    read(&[("cache-control", value)])
}

/// So many seconds after the answer, by both clocks.
fn after(seconds: i64) -> Clock {
    Clock { now: at(seconds), elapsed: Some(Duration::from_secs(seconds.unsigned_abs())) }
}

/// The number of whole seconds for which an answer is fresh.
fn fresh_for(lifetime: &Lifetime) -> i64 {
    let fresh = |seconds: &i64| lifetime.verdict(after(*seconds)) == Use::Fresh;
    (0..10_000).take_while(fresh).count() as i64
}

#[test]
fn max_age_counts_from_the_answer_and_goes_before_expires() {
    assert_eq!(fresh_for(&control("max-age=60")), 60);
    assert_eq!(fresh_for(&control("MAX-AGE=\"60\"")), 60);
    assert_eq!(fresh_for(&control("foo, ,max-age=060,bar=\"a,b\"")), 60);
    assert_eq!(fresh_for(&control("s-maxage=60")), 0, "not for a private cache");
    assert_eq!(fresh_for(&control("max-age=60, s-maxage=1, private")), 60);
    let both = [("cache-control", "max-age=60"), ("expires", "0")];
    assert_eq!(fresh_for(&read(&both)), 60);
    let both = [("cache-control", "max-age=0"), ("expires", &date(60))];
    assert_eq!(fresh_for(&read(&both)), 0);
}

#[test]
fn a_greater_number_than_fits_is_a_great_number() {
    for digits in ["2147483648", "99999999999", "99999999999999999999999999"] {
        let lifetime = control(&format!("max-age={digits}"));
        assert_eq!(lifetime.verdict(after(1 << 30)), Use::Fresh, "{digits}");
        assert_eq!(lifetime.verdict(after(1 << 31)), Use::Stale, "{digits}");
    }
}

#[test]
fn nonsense_and_contradiction_are_stale() {
    for value in [
        "max-age",
        "max-age=",
        "max-age=\"\"",
        "max-age=-60",
        "max-age=+60",
        "max-age=60.0",
        "max-age='60'",
        "max-age=60a",
        "max-age=a60",
        "max-age =60",
        "max-age= 60",
        "max-age=\"6\\0\"",
        "max-age=60, max-age=61",
        "max-age=60, max-age=x",
        "max-age=60, foo=\"",
        "max-age=60, foo=\"\\\"",
        "foo=\"max-age=60\"",
        "foo=\"a, max-age=60\"",
        "",
    ] {
        assert_eq!(fresh_for(&control(value)), 0, "{value}");
    }
    assert_eq!(fresh_for(&control("max-age=60, max-age=60")), 60, "no contradiction");
    let lines = [("cache-control", "max-age=60"), ("cache-control", "max-age=10")];
    assert_eq!(fresh_for(&read(&lines)), 0);
}

#[test]
fn without_an_explicit_lifetime_nothing_is_fresh() {
    for lifetime in [
        Lifetime::default(),
        read(&[]),
        read(&[("last-modified", &date(-1_000_000)), ("date", &date(0))]),
        control("public, immutable, stale-while-revalidate=60"),
    ] {
        assert_eq!(lifetime.verdict(after(0)), Use::Stale);
        assert!(!lifetime.lasts());
    }
}

#[test]
fn expires_is_compared_with_the_date_of_its_own_clock() {
    let expires =
        |expires: &str, date: &str| fresh_for(&read(&[("expires", expires), ("date", date)]));
    assert_eq!(expires(&date(60), &date(0)), 60);
    assert_eq!(fresh_for(&read(&[("expires", &date(60))])), 60, "no Date");
    assert_eq!(expires(&date(60), "foo"), 60, "no usable Date");
    assert_eq!(expires(&date(360), &date(300)), 60, "the origin's clock is fast");
    assert_eq!(expires(&date(0), &date(0)), 0);
    assert_eq!(expires(&date(300), &date(400)), 0);
    for nonsense in ["0", "-1", "", "tomorrow", "Thu 18 Aug 2050 02:01:18 UTC"] {
        assert_eq!(expires(nonsense, &date(0)), 0, "{nonsense}");
    }
    let twice = |a: &str, b: &str| fresh_for(&read(&[("expires", a), ("expires", b)]));
    assert_eq!(twice(&date(60), &date(61)), 0);
    assert_eq!(twice(&date(60), &date(60)), 60);
}

#[test]
fn an_answer_has_an_age_when_it_comes() {
    let aged = |fields: &[(&str, &str)]| {
        fresh_for(&read(&[&[("cache-control", "max-age=100")], fields].concat()))
    };
    assert_eq!(aged(&[("age", "30")]), 70);
    assert_eq!(aged(&[("date", &date(-30))]), 70);
    assert_eq!(aged(&[("date", &date(30))]), 100, "the origin's clock is fast");
    assert_eq!(aged(&[("date", &date(-30)), ("age", "40")]), 60, "the greater of the two");
    assert_eq!(aged(&[("date", &date(-40)), ("age", "30")]), 60);
    for nonsense in ["abc", "-7", "7.0", "7;a=b", "0, 0", "0,7200", ""] {
        assert_eq!(aged(&[("age", nonsense)]), 0, "{nonsense}");
    }
    assert_eq!(aged(&[("age", "0"), ("age", "0")]), 0);
    assert_eq!(aged(&[("date", &date(0)), ("date", &date(-1))]), 0);

    // The time that the answer was under way may all have been spent after Age was worked out.
    let fields = [("cache-control", &b"max-age=100"[..]), ("age", b"10")];
    let slow = Lifetime::read(fields.into_iter(), at(-20), at(0));
    assert_eq!(fresh_for(&slow), 70);
    let backwards = Lifetime::read(fields.into_iter(), at(20), at(0));
    assert_eq!(fresh_for(&backwards), 0, "the clock was set while the origin was asked");
}

#[test]
fn directives_that_demand_a_question() {
    for value in [
        "max-age=60, no-cache",
        "no-CACHE=\"a, b\", max-age=60",
        "max-age=60, no-cache=a",
        "max-age=60, no-cache =",
        "max-age=60, No-Store",
        "max-age=60, no-store, stale-while-revalidate=60",
    ] {
        let lifetime = control(value);
        assert_eq!(lifetime.verdict(after(0)), Use::Stale, "{value}");
        assert_eq!(lifetime.usable_on_error(after(0)), Some(false), "{value}");
    }
    assert!(control("no-store").no_store());
    assert!(!control("max-age=1, foo=\"no-store\"").no_store());
    let pragma = |fields: &[(&str, &str)]| {
        fresh_for(&read(&[&[("pragma", "foo, No-Cache"), ("expires", &date(60))], fields].concat()))
    };
    assert_eq!(pragma(&[]), 0);
    assert_eq!(pragma(&[("cache-control", "max-age=60")]), 60);
    assert_eq!(fresh_for(&read(&[("pragma", "foo"), ("expires", &date(60))])), 60);
}

#[test]
fn vary_is_kept_by_name_and_a_star_matches_nothing() {
    let vary = |value: &str| read(&[("cache-control", "max-age=60"), ("vary", value)]);
    let lifetime = vary("Accept, , x-TENANT");
    assert_eq!(fresh_for(&lifetime), 60);
    assert!(lifetime.varies_by("x-tenant") && lifetime.varies_by("accept"));
    assert!(!lifetime.varies_by("x") && !lifetime.varies_by(""));
    let many: Vec<String> = (0..40).map(|i| format!("x-{i}")).collect();
    for star in ["*", "*, *", ", *", "foo, *", "a b", "\"x\"", &many.join(",")] {
        let lifetime = vary(star);
        assert_eq!(fresh_for(&lifetime), 0, "{star}");
        assert_eq!(lifetime.usable_on_error(after(0)), Some(false), "{star}");
    }
}

#[test]
fn stale_use_is_allowed_or_forbidden_by_the_origin() {
    let uses = |value: &str| [59, 60, 89, 90].map(|age| control(value).verdict(after(age)));
    let grace = [Use::Fresh, Use::StaleWhileRevalidate, Use::StaleWhileRevalidate, Use::Stale];
    let none = [Use::Fresh, Use::Stale, Use::Stale, Use::Stale];
    assert_eq!(uses("max-age=60, stale-while-revalidate=30"), grace);
    assert_eq!(uses("max-age=60, stale-while-revalidate=30, must-revalidate"), none);
    assert_eq!(uses("max-age=60, stale-while-revalidate=30, stale-while-revalidate=31"), none);
    assert_eq!(uses("max-age=60, immutable"), none, "immutable only while fresh");

    let on_error = |value: &str| [60, 89, 90].map(|age| control(value).usable_on_error(after(age)));
    let (yes, no) = (Some(true), Some(false));
    assert_eq!(on_error("max-age=60"), [None; 3]);
    assert_eq!(on_error("max-age=60, stale-if-error=30"), [yes, yes, no]);
    assert_eq!(on_error("stale-if-error=90"), [yes, yes, no], "no lifetime");
    assert_eq!(on_error("max-age=60, stale-if-error=30, must-revalidate"), [no; 3]);
    assert_eq!(on_error("max-age=60, must-revalidate"), [no; 3]);
    assert_eq!(on_error("max-age=60, stale-if-error=x"), [None; 3]);
}

#[test]
fn no_clock_that_jumps_is_trusted() {
    let lifetime = control("max-age=100, stale-if-error=100");
    let clock = |now: i64, elapsed: Option<u64>| {
        lifetime.verdict(Clock { now: at(now), elapsed: elapsed.map(Duration::from_secs) })
    };
    assert_eq!(clock(50, None), Use::Fresh);
    assert_eq!(clock(-1, None), Use::Stale, "before the answer");
    assert_eq!(clock(-1, Some(1)), Use::Stale);
    assert_eq!(clock(1, Some(99)), Use::Fresh);
    assert_eq!(clock(1, Some(100)), Use::Stale, "set back");
    assert_eq!(clock(100, Some(1)), Use::Stale, "set forward");
    let before = Clock { now: at(-1), elapsed: Some(Duration::ZERO) };
    assert_eq!(lifetime.usable_on_error(before), Some(false));
}

#[test]
fn a_304_updates_field_by_field() {
    let old = read(&[
        ("cache-control", "max-age=60, stale-if-error=9"),
        ("vary", "a"),
        ("age", "50"),
        ("date", &date(-50)),
    ]);
    assert_eq!(fresh_for(&old), 10);
    let same = old.updated(&read(&[]));
    assert_eq!(fresh_for(&same), 60, "Age and Date are those of the newer answer");
    assert!(same.varies_by("a") && same.same_terms(&old));
    let shorter = old.updated(&control("max-age=5"));
    assert_eq!(fresh_for(&shorter), 5);
    assert_eq!(shorter.usable_on_error(after(0)), None, "a field is replaced whole");
    assert!(!shorter.same_terms(&old));
    assert!(!old.updated(&read(&[("vary", "b")])).varies_by("a"));
    assert_eq!(fresh_for(&old.updated(&read(&[("expires", &date(900))]))), 60);
    assert_eq!(fresh_for(&old.updated(&control("no-store"))), 0);
    let expires = read(&[("expires", &date(60))]);
    let later = Lifetime::read(std::iter::empty(), at(50), at(50));
    let left = expires.updated(&later);
    let verdict = |now| left.verdict(Clock { now: at(now), elapsed: None });
    assert_eq!(verdict(59), Use::Fresh);
    assert_eq!(verdict(60), Use::Stale, "Expires is a moment");
}

/// If this fails, what older releases saved is read as the default: sources ask once more.
#[test]
fn the_saved_form_is_this() {
    let lifetime = read(&[
        ("cache-control", "max-age=60, must-revalidate, stale-if-error=5"),
        ("vary", "Accept"),
        ("age", "7"),
    ]);
    let saved = concat!(
        r#"{"terms":{"control":{"must_revalidate":true,"max_age":60,"stale_if_error":5},"#,
        r#""vary":["accept"]},"arrival":{"at":1767225600000,"age":7000,"date":1767225600}}"#
    );
    assert_eq!(serde_json::to_string(&lifetime).unwrap(), saved);
    assert_eq!(serde_json::from_str::<Lifetime>(saved).unwrap(), lifetime);
    for other in [
        "{}",
        "null",
        "[1]",
        "7",
        r#"{"terms":{},"arrival":{"at":1,"age":2,"date":3},"more":1}"#,
        r#"{"terms":{"unknown":true},"arrival":{"at":1,"age":2,"date":3}}"#,
        r#"{"terms":{"control":{"max_age":"x"}},"arrival":{"at":1,"age":2,"date":3}}"#,
    ] {
        let read: Lifetime = serde_json::from_str(other).unwrap();
        assert_eq!(read, Lifetime::default(), "{other}");
    }
}

/// A directive that means something here, or nothing, or is broken.
fn directive() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("max-age"),
        Just("s-maxage"),
        Just("stale-while-revalidate"),
        Just("stale-if-error"),
    ];
    prop_oneof![
        (name.clone(), 0..300u32).prop_map(|(name, n)| format!("{name}={n}")),
        (name, "[ -~]{0,6}").prop_map(|(name, text)| format!("{name}={text}")),
        Just("no-cache".to_owned()),
        Just("no-store".to_owned()),
        Just("must-revalidate".to_owned()),
        Just("immutable".to_owned()),
        "x-[a-z]{1,5}(=[a-z0-9]{0,4})?",
    ]
}

/// The fields of an answer, some of them sensible.
fn header() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    let any_bytes = || prop::collection::vec(any::<u8>(), 0..20);
    let field = prop_oneof![
        4 => prop::collection::vec(directive(), 0..4)
            .prop_map(|all| ("cache-control", all.join(", ").into_bytes())),
        2 => (-300..300i64).prop_map(|shift| ("expires", date(shift).into_bytes())),
        2 => (-300..300i64).prop_map(|shift| ("date", date(shift).into_bytes())),
        2 => (0..300u32).prop_map(|age| ("age", age.to_string().into_bytes())),
        1 => ("[a-z*, ]{0,9}").prop_map(|names| ("vary", names.into_bytes())),
        1 => Just(("pragma", b"no-cache".to_vec())),
        1 => (
            prop::sample::select(vec!["cache-control", "expires", "date", "age", "vary", "pragma"]),
            any_bytes(),
        ),
    ];
    prop::collection::vec(field, 0..5)
}

fn of(header: &[(&'static str, Vec<u8>)]) -> Lifetime {
    let fields = header.iter().map(|(name, value)| (*name, value.as_slice()));
    Lifetime::read(fields, at(-1), at(0))
}

fn rank(usable: Use) -> u8 {
    match usable {
        Use::Fresh => 0,
        Use::StaleWhileRevalidate => 1,
        Use::Stale => 2,
    }
}

proptest! {
    #[test]
    fn age_never_makes_fresher(header in header(), now in -10..1000i64, more in 0..1000i64, elapsed in 0..1000u64) {
        let lifetime = of(&header);
        let clock = |now, elapsed| Clock { now: at(now), elapsed: Some(Duration::from_secs(elapsed)) };
        let (younger, older) = (clock(now.max(0), elapsed), clock(now.max(0) + more, elapsed));
        prop_assert!(rank(lifetime.verdict(younger)) <= rank(lifetime.verdict(older)));
        let older = clock(now.max(0), elapsed + more.unsigned_abs());
        prop_assert!(rank(lifetime.verdict(younger)) <= rank(lifetime.verdict(older)));
        if lifetime.usable_on_error(younger) == Some(false) {
            prop_assert_eq!(lifetime.usable_on_error(older), Some(false));
        }
        if now < 0 {
            prop_assert_eq!(lifetime.verdict(clock(now, elapsed)), Use::Stale);
        }
    }

    #[test]
    fn nothing_is_fresh_past_what_the_answer_says(header in header(), now in 0..1000i64) {
        let lifetime = of(&header);
        let text: String = header
            .iter()
            .filter(|(name, _)| *name == "cache-control")
            .map(|(_, value)| String::from_utf8_lossy(value).to_lowercase() + ",")
            .collect();
        // The greatest number that could be meant, whatever form it has.
        let digits = text.split("max-age").skip(1).map(|rest| {
            let number: String = rest.chars().filter(char::is_ascii_digit).take(10).collect();
            number.parse::<i64>().unwrap_or(0)
        });
        let said = digits.max().unwrap_or(600);
        if lifetime.verdict(after(now)) == Use::Fresh {
            prop_assert!(now < said, "fresh at {now}, though {said} is the most that was said");
            prop_assert!(!text.split(',').any(|d| matches!(d.trim(), "no-store" | "no-cache")));
        }
    }

    #[test]
    fn order_of_directives_and_lines_means_nothing(
        (all, mixed) in prop::collection::vec(directive(), 0..6)
            .prop_filter("quotes span directives", |all| !all.iter().any(|d| d.contains('"')))
            .prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        age in 0..600i64,
    ) {
        let one = control(&all.join(","));
        let other = control(&mixed.join(" , "));
        let lines: Vec<_> = mixed.iter().map(|d| ("cache-control", d.as_str())).collect();
        prop_assert_eq!(one.verdict(after(age)), other.verdict(after(age)));
        prop_assert_eq!(one.usable_on_error(after(age)), other.usable_on_error(after(age)));
        if !lines.is_empty() {
            prop_assert_eq!(read(&lines), other);
        }
    }

    #[test]
    fn unknown_directives_and_fields_mean_nothing(header in header(), word in "x-[a-z]{0,9}") {
        let mut more = vec![("x-other", b"max-age=5".to_vec()), ("set-cookie", b"a=b".to_vec())];
        more.extend(header.iter().map(|(name, value)| match *name {
            "cache-control" => (*name, [format!("{word}=1, {word}, ").as_bytes(), value].concat()),
            _ => (*name, value.clone()),
        }));
        prop_assert_eq!(of(&header), of(&more));
    }

    #[test]
    fn what_is_saved_comes_back(header in header(), newer in header()) {
        let lifetime = of(&header).updated(&of(&newer));
        let saved = serde_json::to_string(&lifetime).unwrap();
        prop_assert!(saved.len() < 400, "{saved}");
        prop_assert_eq!(serde_json::from_str::<Lifetime>(&saved).unwrap(), lifetime);
    }

    #[test]
    fn no_bytes_and_no_times_panic(
        fields in prop::collection::vec((prop::sample::select(vec![
            "cache-control", "expires", "date", "age", "vary", "pragma",
        ]), prop::collection::vec(any::<u8>(), 0..60)), 0..6),
        asked in any::<u32>(),
        answered in any::<u32>(),
        now in any::<u64>(),
        elapsed in prop::option::of(any::<u64>()),
    ) {
        let time = |seconds: u64| {
            let since = Duration::from_secs(seconds);
            SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
        };
        let fields = fields.iter().map(|(name, value)| (*name, value.as_slice()));
        let lifetime = Lifetime::read(fields, time(asked.into()), time(answered.into()));
        let clock = Clock { now: time(now), elapsed: elapsed.map(Duration::from_secs) };
        let _ = (lifetime.verdict(clock), lifetime.usable_on_error(clock));
    }
}

#[test]
fn what_redirects_led_to_lasts_no_longer_than_they_do() {
    let seconds = |count| Some(Duration::from_secs(count));
    let value = "max-age=60, stale-while-revalidate=60";
    let within = |redirects| control(value).within(redirects);
    let uses = |lifetime: Lifetime| [0, 9, 10, 59, 60].map(|age| lifetime.verdict(after(age)));
    let (fresh, grace, stale) = (Use::Fresh, Use::StaleWhileRevalidate, Use::Stale);
    assert_eq!(uses(within(None)), [fresh, fresh, fresh, fresh, grace]);
    assert_eq!(uses(within(seconds(10))), [fresh, fresh, stale, stale, stale]);
    assert_eq!(uses(within(seconds(0))), [stale; 5]);
    assert!(within(seconds(10)).lasts() && !within(seconds(0)).lasts());
    let saved = serde_json::to_string(&within(seconds(10))).unwrap();
    assert_eq!(serde_json::from_str::<Lifetime>(&saved).unwrap(), within(seconds(10)));
    // The redirects come anew with each answer.
    assert_eq!(uses(within(seconds(10)).updated(&read(&[]))), uses(within(None)));
    assert_eq!(uses(within(None).updated(&read(&[]).within(seconds(0)))), [stale; 5]);

    let left = |fields: &[(&str, &str)]| read(fields).left_at_arrival().as_secs();
    assert_eq!(left(&[("cache-control", "max-age=60"), ("age", "50")]), 10);
    for none in [
        &[][..],
        &[("cache-control", "max-age=60"), ("age", "60")],
        &[("cache-control", "max-age=60, no-cache")],
        &[("cache-control", "max-age=60"), ("vary", "accept")],
        &[("cache-control", "max-age=60"), ("age", "x")],
    ] {
        assert_eq!(left(none), 0, "{none:?}");
    }
}
