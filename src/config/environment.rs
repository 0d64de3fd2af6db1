//! Settings from `LONGHAUL_*`: `LONGHAUL_REDIS__PREFIX=x` sets `prefix` in `[redis]`.
//!
//! Other variables have the same prefix: Kubernetes sets some for a service named `longhaul`, `longhaul work` for its programs.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};

use super::error::ConfigError;

/// The settings in the environment.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) settings: BTreeMap<String, Value>,
    /// Variables that are not settings.
    pub(super) ignored: Vec<String>,
}

/// Reads the settings among the variables; `known` are all settings with their defaults.
///
/// # Errors
/// If a variable looks like a misspelt setting.
pub(super) fn read(
    environment: &BTreeMap<String, String>,
    known: &Dict,
) -> Result<Environment, ConfigError> {
    let names = names(known);
    let (mut settings, mut ignored) = (BTreeMap::new(), Vec::new());
    for (variable, value) in environment {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        if !names.contains(&name.to_ascii_lowercase()) {
            if !OTHERS.contains(&name) && !name.starts_with("TEST_") {
                check_spelling(variable, name, &names)?;
                ignored.push(variable.clone());
            }
            continue;
        }
        let value = match value.as_str() {
            "true" => Value::from(true),
            "false" => Value::from(false),
            text => Value::from(text),
        };
        insert(&mut settings, &name.to_ascii_lowercase(), value);
    }
    Ok(Environment { settings, ignored })
}

fn insert(settings: &mut BTreeMap<String, Value>, name: &str, value: Value) {
    let Some((section, key)) = name.split_once(SEPARATOR) else {
        settings.insert(name.to_owned(), value);
        return;
    };
    let section = settings.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
    if let Value::Dict(_, section) = section {
        section.insert(key.to_owned(), value);
    }
}

/// The variable of each setting, without the prefix and in lower case.
fn names(known: &Dict) -> Vec<String> {
    let names = known.iter().flat_map(|(name, value)| match value {
        Value::Dict(_, section) => {
            section.keys().map(|key| format!("{name}{SEPARATOR}{key}")).collect()
        }
        _ => vec![name.clone()],
    });
    names.collect()
}

/// Refuses a variable that is a misspelt setting.
fn check_spelling(variable: &str, name: &str, names: &[String]) -> Result<(), ConfigError> {
    if is_of_a_service(variable) {
        return Ok(());
    }
    let wanted = name.to_ascii_lowercase();
    let section = wanted.split_once(SEPARATOR).map(|(section, _)| format!("{section}{SEPARATOR}"));
    let others = OTHERS.iter().map(|other| other.to_ascii_lowercase());
    let candidates = names.iter().cloned().chain(others);
    let closest = candidates
        .map(|candidate| (distance(&wanted, &candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).clamp(1, 2))
        .min();
    if let Some((_, closest)) = closest {
        return Err(ConfigError(format!(
            "{variable} is no setting; is {PREFIX}{} meant?",
            closest.to_ascii_uppercase()
        )));
    }
    match section {
        Some(section) if names.iter().any(|name| name.starts_with(&section)) => {
            let there = names.iter().filter(|name| name.starts_with(&section));
            let there: Vec<_> =
                there.map(|name| format!("{PREFIX}{}", name.to_ascii_uppercase())).collect();
            Err(ConfigError(format!(
                "{variable} is no setting; those of its section are {}",
                there.join(", ")
            )))
        }
        _ => Ok(()),
    }
}

/// The edit distance of two names, ignoring underscores.
fn distance(one: &str, other: &str) -> usize {
    let letters = |name: &str| name.replace('_', "");
    strsim::damerau_levenshtein(&letters(one), &letters(other))
}

/// Whether Kubernetes sets such a variable for a service, or Docker for a link.
fn is_of_a_service(variable: &str) -> bool {
    let address = |rest: &str| {
        let mut parts = rest.splitn(3, '_');
        let port = parts.next().is_some_and(|port| port.parse::<u16>().is_ok());
        let protocol =
            parts.next().is_some_and(|protocol| ["TCP", "UDP", "SCTP"].contains(&protocol));
        port && protocol && matches!(parts.next(), None | Some("ADDR" | "PORT" | "PROTO"))
    };
    variable.ends_with("_SERVICE_HOST")
        || variable.ends_with("_PORT")
        || variable.contains("_SERVICE_PORT_")
        || variable.split_once("_PORT_").is_some_and(|(_, rest)| address(rest))
}

const PREFIX: &str = "LONGHAUL_";
const SEPARATOR: &str = "__";
/// Variables of logs, clients and programs of `longhaul work`.
const OTHERS: [&str; 9] = [
    "LOG",
    "SERVER",
    "TOKEN",
    "TLS_CA",
    "OPERATION",
    "FENCING_NUMBER",
    "ATTEMPT",
    "METHOD",
    "TEST_REDIS",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, String> {
        let known: Dict = [
            ("store".to_owned(), Value::from("")),
            ("listen".to_owned(), Value::from("")),
            ("wait_for_store".to_owned(), Value::from(false)),
            ("redis".to_owned(), Value::from(Dict::from([("prefix".to_owned(), Value::from(""))]))),
        ]
        .into();
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        super::read(&variables.collect(), &known).map_err(|error| error.to_string())
    }

    #[test]
    fn what_others_set_is_ignored_and_counted() {
        let service = [
            ("LONGHAUL_PORT", "tcp://10.0.0.7:50051"),
            ("LONGHAUL_SERVICE_HOST", "10.0.0.7"),
            ("LONGHAUL_SERVICE_PORT", "50051"),
            ("LONGHAUL_SERVICE_PORT_GRPC", "50051"),
            ("LONGHAUL_PORT_50051_TCP", "tcp://10.0.0.7:50051"),
            ("LONGHAUL_PORT_50051_TCP_ADDR", "10.0.0.7"),
            ("LONGHAUL_PORT_50051_TCP_PORT", "50051"),
            ("LONGHAUL_PORT_50051_TCP_PROTO", "tcp"),
            // Variables of services named longhaul-redis and longhaul-store.
            ("LONGHAUL_REDIS_PORT", "tcp://10.0.0.8:6379"),
            ("LONGHAUL_STORE_SERVICE_HOST", "10.0.0.9"),
            ("LONGHAUL_TEAM", "blue"),
        ];
        let read = read(&service).expect("no error");
        assert!(read.settings.is_empty());
        assert_eq!(read.ignored.len(), service.len());
    }

    #[test]
    fn what_longhaul_itself_sets_and_reads_elsewhere_is_not_worth_a_word() {
        let known = OTHERS.map(|name| (format!("LONGHAUL_{name}"), String::new()));
        let known: Vec<_> = known.iter().map(|(name, value)| (&**name, &**value)).collect();
        let read = read(&[&known[..], &[("HOME", "/root")]].concat()).expect("no error");
        assert!(read.settings.is_empty() && read.ignored.is_empty(), "{read:?}");
    }

    #[test]
    fn what_is_almost_a_setting_is_refused_with_the_one_that_is_meant() {
        for (variable, meant) in [
            ("LONGHAUL_STROE", "LONGHAUL_STORE"),
            ("LONGHAUL_STORES", "LONGHAUL_STORE"),
            ("LONGHAUL_LISTNE", "LONGHAUL_LISTEN"),
            ("LONGHAUL_WAITFORSTORE", "LONGHAUL_WAIT_FOR_STORE"),
            ("LONGHAUL_REDIS_PREFIX", "LONGHAUL_REDIS__PREFIX"),
            ("LONGHAUL_REDIS__PREFFIX", "LONGHAUL_REDIS__PREFIX"),
            ("LONGHAUL_REDIS__POOL", "LONGHAUL_REDIS__PREFIX"),
            ("LONGHAUL_SEVER", "LONGHAUL_SERVER"),
        ] {
            let refusal = read(&[(variable, "x")]).expect_err(variable);
            assert!(refusal.contains(variable) && refusal.contains(meant), "{refusal}");
        }
    }

    #[test]
    fn settings_are_read_into_their_sections() {
        let read = read(&[("LONGHAUL_STORE", "x"), ("LONGHAUL_REDIS__PREFIX", "y")]).expect("read");
        assert_eq!(read.settings["store"].as_str(), Some("x"));
        let redis = read.settings["redis"].as_dict().expect("a section");
        assert_eq!(redis["prefix"].as_str(), Some("y"));
    }
}
