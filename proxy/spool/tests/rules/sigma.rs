//! Detection rules in the manner of Sigma: fields that contain, begin with or end with words, whatever their case.

use serde_json::Value;

/// A rule fires when all of its tests hold and none of `unless` does.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    all: &'static [Test],
    unless: &'static [Test],
}

struct Test {
    field: &'static str,
    how: How,
    words: &'static [&'static str],
}

/// How a field is compared; words are in lower case.
enum How {
    ContainsAny,
    ContainsAll,
    StartsWith,
    EndsWith,
}

impl Rule {
    /// Whether a record, or the key of repeats, is what the rule looks for.
    pub(crate) fn fires(&self, fields: &Value) -> bool {
        self.all.iter().all(|test| test.holds(fields)) && !self.unless.iter().any(|test| test.holds(fields))
    }
}

impl Test {
    fn holds(&self, fields: &Value) -> bool {
        let Some(text) = fields[self.field].as_str().map(str::to_lowercase) else { return false };
        match self.how {
            How::ContainsAny => self.words.iter().any(|word| text.contains(word)),
            How::ContainsAll => self.words.iter().all(|word| text.contains(word)),
            How::StartsWith => self.words.iter().any(|word| text.starts_with(word)),
            How::EndsWith => self.words.iter().any(|word| text.ends_with(word)),
        }
    }
}

const fn image(words: &'static [&'static str]) -> Test {
    Test { field: "image_path", how: How::EndsWith, words }
}

const fn parent(words: &'static [&'static str]) -> Test {
    Test { field: "parent_image", how: How::EndsWith, words }
}

const fn command_with_any(words: &'static [&'static str]) -> Test {
    Test { field: "cmdline", how: How::ContainsAny, words }
}

const fn command_with_all(words: &'static [&'static str]) -> Test {
    Test { field: "cmdline", how: How::ContainsAll, words }
}

const fn rule(name: &'static str, all: &'static [Test]) -> Rule {
    Rule { name, all, unless: &[] }
}

const SHELLS: &[&str] =
    &["\\cmd.exe", "\\powershell.exe", "\\pwsh.exe", "\\wscript.exe", "\\cscript.exe", "\\mshta.exe"];

const SYSTEM: Test = Test { field: "user", how: How::StartsWith, words: &["nt authority\\", "system"] };

pub(crate) const RULES: &[Rule] = &[
    rule(
        "encoded powershell",
        &[image(&["\\powershell.exe", "\\pwsh.exe"]), command_with_any(&[" -enc", " -ec ", " -e "])],
    ),
    rule("download cradle", &[command_with_any(&["downloadstring", "invoke-webrequest", "net.webclient"])]),
    rule("script run by rundll32", &[image(&["\\rundll32.exe"]), command_with_all(&["javascript:", "mshtml"])]),
    rule(
        "shell out of an office program",
        &[parent(&["\\winword.exe", "\\excel.exe", "\\powerpnt.exe", "\\outlook.exe"]), image(SHELLS)],
    ),
    rule("memory of lsass written by comsvcs", &[command_with_all(&["comsvcs", "minidump"])]),
    rule("download by certutil", &[image(&["\\certutil.exe"]), command_with_all(&["urlcache", "http"])]),
    rule("shadow copies deleted", &[image(&["\\vssadmin.exe", "\\wmic.exe"]), command_with_all(&["shadow", "delete"])]),
    rule("command from afar by psexec", &[parent(&["\\psexesvc.exe"])]),
    rule("process made by wmic", &[image(&["\\wmic.exe"]), command_with_all(&["process", "call", "create"])]),
    rule("scriptlet run by regsvr32", &[image(&["\\regsvr32.exe"]), command_with_any(&["scrobj", "/i:http"])]),
    Rule {
        name: "task scheduled by a person",
        all: &[image(&["\\schtasks.exe"]), command_with_any(&["/create"])],
        unless: &[SYSTEM],
    },
    rule("account added", &[image(&["\\net.exe", "\\net1.exe"]), command_with_all(&["user", "/add"])]),
    rule("shell out of a web server", &[parent(&["\\w3wp.exe", "\\httpd.exe", "\\nginx.exe"]), image(SHELLS)]),
    rule("shell of the system out of a service", &[SYSTEM, parent(&["\\services.exe"]), image(SHELLS)]),
    rule(
        "program out of a downloaded script",
        &[Test { field: "parent_cmdline", how: How::ContainsAny, words: &["\\downloads\\", "\\temp\\"] }],
    ),
    rule("directory database copied", &[image(&["\\ntdsutil.exe"]), command_with_all(&["ntds", "ifm"])]),
];
