//! The programs that a Windows machine of a small business runs, made up: paths, command lines and parents as they look
//! in the field, none recorded from anybody.
//!
//! A template with a list placeholder (`{service}`, `{document}`, ...) stands for one entry per member of the list;
//! `{number}`, `{hex}` and `{guid}` differ from event to event, and `{user}` from agent to agent.

/// One kind of process creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) image: String,
    pub(super) cmdline: String,
    pub(super) parent_image: String,
    pub(super) parent_cmdline: String,
    pub(super) cwd: &'static str,
    pub(super) rights: Rights,
}

/// Whose process it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    System,
    Elevated,
    User,
}

/// Every entry, the everyday ones first.
pub(super) fn entries() -> Vec<Entry> {
    TEMPLATES.iter().flat_map(expand).collect()
}

/// The names people have; one per agent.
pub(super) const USERS: &[&str] = &[
    "a.martin",
    "b.kowalski",
    "c.ferrari",
    "d.nguyen",
    "e.schmidt",
    "f.dubois",
    "g.rossi",
    "h.tanaka",
    "i.novak",
    "j.garcia",
    "k.olsen",
    "l.brown",
    "m.silva",
    "n.petrov",
    "o.meyer",
    "p.lopez",
    "q.zhang",
    "r.jones",
    "s.kumar",
    "t.larsen",
    "u.weber",
    "v.costa",
    "w.murphy",
    "x.chen",
    "y.haddad",
    "z.horvat",
    "frontdesk",
    "scanner",
    "backoffice",
];

struct Template(&'static str, &'static str, &'static str, &'static str, &'static str, Rights);

use Rights::{Elevated, System, User};

const WINDOWS: &str = r"C:\Windows\";
const EXPLORER: &str = r"C:\Windows\explorer.exe";
const SERVICES: &str = r"C:\Windows\System32\services.exe";
const SVCHOST: &str = r"C:\Windows\System32\svchost.exe";
const SCHEDULER: &str = "svchost.exe -k netsvcs -p -s Schedule";
const CHROME: &str = r"C:\Program Files\Google\Chrome\Application\chrome.exe";
const EDGE: &str = r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe";
const OFFICE: &str = r"C:\Program Files\Microsoft Office\root\Office16\";
const HOME: &str = r"C:\Users\{user}\";

#[rustfmt::skip]
const TEMPLATES: &[Template] = &[
    Template(CHROME, r#"chrome.exe --type=renderer --renderer-client-id={number} --lang=en-US"#, CHROME, "chrome.exe", HOME, User),
    Template(EDGE, r#"msedge.exe --type=utility --utility-sub-type={utility} --field-trial-handle={number}"#, EDGE, "msedge.exe --no-startup-window", HOME, User),
    Template(SVCHOST, r"svchost.exe -k {group} -p -s {service}", SERVICES, "services.exe", WINDOWS, System),
    Template(r"C:\Windows\System32\conhost.exe", r"\??\C:\Windows\system32\conhost.exe 0xffffffff -ForceV1", r"C:\Windows\System32\cmd.exe", "cmd.exe /c {script}", WINDOWS, Elevated),
    Template(r"C:\Windows\System32\backgroundTaskHost.exe", r#"backgroundTaskHost.exe -ServerName:App.AppX{hex}.mca"#, SVCHOST, "svchost.exe -k DcomLaunch -p", WINDOWS, User),
    Template(r"C:\Windows\System32\RuntimeBroker.exe", r"C:\Windows\System32\RuntimeBroker.exe -Embedding", SVCHOST, "svchost.exe -k DcomLaunch -p", WINDOWS, User),
    Template(r"C:\Windows\System32\dllhost.exe", r"C:\Windows\system32\DllHost.exe /Processid:{{guid}}", SVCHOST, "svchost.exe -k DcomLaunch -p", WINDOWS, User),
    Template(r"C:\Windows\System32\taskhostw.exe", r"taskhostw.exe {taskarg}", SVCHOST, SCHEDULER, WINDOWS, System),
    Template(r"C:\Windows\System32\SearchProtocolHost.exe", r#"SearchProtocolHost.exe Global\UsGthrFltPipeMssGthrPipe{number}_ Global\UsGthrCtrlFltPipeMssGthrPipe{number} 1 -2147483646"#, r"C:\Windows\System32\SearchIndexer.exe", "SearchIndexer.exe /Embedding", WINDOWS, System),
    Template(r"C:\Windows\System32\wbem\WmiPrvSE.exe", r"C:\Windows\system32\wbem\wmiprvse.exe -secured -Embedding", SVCHOST, "svchost.exe -k DcomLaunch -p", WINDOWS, System),
    Template(r"C:\Program Files\Microsoft Office\root\Office16\{office}.EXE", r#""{image}" /n "C:\Users\{user}\Documents\{document}""#, EXPLORER, r"C:\Windows\Explorer.EXE", HOME, User),
    Template(r"C:\Program Files\Microsoft Office\root\Office16\OUTLOOK.EXE", r#""{image}" /eml "C:\Users\{user}\AppData\Local\Temp\{hex}.eml""#, EXPLORER, r"C:\Windows\Explorer.EXE", OFFICE, User),
    Template(r"C:\Windows\System32\cmd.exe", "cmd.exe /c {script}", SVCHOST, SCHEDULER, WINDOWS, Elevated),
    Template(r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe", r#"powershell.exe -NoProfile -ExecutionPolicy Bypass -File "C:\ProgramData\{vendor}\scripts\{psscript}" -RunId {guid}"#, SVCHOST, SCHEDULER, WINDOWS, System),
    Template(r"C:\Windows\System32\reg.exe", r#"reg query "HKLM\SOFTWARE\{vendor}" /v Version /reg:64"#, r"C:\Windows\System32\cmd.exe", "cmd.exe /c {script}", WINDOWS, Elevated),
    Template(r"C:\Windows\System32\rundll32.exe", r"C:\Windows\system32\rundll32.exe C:\Windows\system32\{library}", SVCHOST, SCHEDULER, WINDOWS, System),
    Template(r"C:\Program Files\{vendor}\Agent\updater.exe", r#""{image}" --check --channel {channel} --session {hex}"#, SERVICES, "services.exe", WINDOWS, System),
    Template(r"C:\Program Files\{vendor}\Agent\worker.exe", r#""{image}" --queue inventory --token {hex}"#, r"C:\Program Files\{vendor}\Agent\service.exe", "service.exe run", WINDOWS, System),
    Template(r"C:\Users\{user}\AppData\Local\Microsoft\Teams\current\Teams.exe", r#""{image}" --type=gpu-process --field-trial-handle={number},{number} --mojo-platform-channel-handle={number}"#, r"C:\Users\{user}\AppData\Local\Microsoft\Teams\current\Teams.exe", r#""{parent}" --system-initiated"#, HOME, User),
    Template(r"C:\Program Files\7-Zip\7zG.exe", r#""{image}" x -o"C:\Users\{user}\Downloads\" -spe -an -ai#7zMap{number}:92:7zEvent{number}"#, EXPLORER, r"C:\Windows\Explorer.EXE", HOME, User),
    Template(r"C:\Program Files\Git\cmd\git.exe", r"git.exe -c core.quotepath=false rev-parse --verify {hex}", r"C:\Users\{user}\AppData\Local\Programs\Microsoft VS Code\Code.exe", r#""{parent}""#, HOME, User),
    Template(r"C:\Windows\System32\splwow64.exe", r"C:\Windows\splwow64.exe 12288", r"C:\Program Files (x86)\{vendor}\Ledger\ledger.exe", r#""C:\Program Files (x86)\{vendor}\Ledger\ledger.exe" /company:{number}"#, HOME, User),
    Template(r"C:\Windows\System32\msiexec.exe", r#"msiexec.exe /i "C:\Windows\Installer\{hex}.msi" /qn REBOOT=ReallySuppress"#, r"C:\Program Files\{vendor}\Agent\service.exe", "service.exe run", WINDOWS, System),
    Template(r"C:\Windows\System32\net.exe", r"net use {drive}: \\fileserver\{share} /persistent:no", r"C:\Windows\System32\cmd.exe", r#"cmd.exe /c "\\dc01\netlogon\{script}""#, WINDOWS, User),
    Template(r"C:\Windows\System32\wevtutil.exe", r"wevtutil.exe qe {log} /q:*[System[(EventRecordID>{number})]] /f:xml", r"C:\Program Files\{vendor}\Agent\service.exe", "service.exe run", WINDOWS, System),
];

const LISTS: &[(&str, &[&str])] = &[
    (
        "{service}",
        &[
            "Schedule",
            "wuauserv",
            "BITS",
            "Winmgmt",
            "UsoSvc",
            "Themes",
            "EventSystem",
            "Appinfo",
            "gpsvc",
            "ProfSvc",
            "SENS",
            "lfsvc",
            "TokenBroker",
            "DsmSvc",
            "wlidsvc",
            "NetSetupSvc",
        ],
    ),
    ("{group}", &["netsvcs", "LocalService"]),
    (
        "{utility}",
        &[
            "network.mojom.NetworkService",
            "storage.mojom.StorageService",
            "audio.mojom.AudioService",
            "asset_store.mojom.AssetStoreService",
        ],
    ),
    ("{office}", &["WINWORD", "EXCEL", "POWERPNT"]),
    (
        "{document}",
        &[
            "invoice-template.docx",
            "price list 2026.xlsx",
            "holidays.xlsx",
            "offer (final).docx",
            "stock count.xlsx",
            "minutes.docx",
            "Q3 figures.xlsx",
        ],
    ),
    ("{script}", &["logon.cmd", "backup.cmd", "mapdrives.bat", "cleanup.cmd", "inventory.bat", "sync-printers.cmd"]),
    ("{psscript}", &["Get-Inventory.ps1", "Update-Definitions.ps1", "Test-Backup.ps1", "Send-Health.ps1"]),
    ("{vendor}", &["Contoso", "Fabrikam", "Northwind", "Litware", "Tailspin", "Wingtip"]),
    (
        "{taskarg}",
        &[
            "Install $(Arg0)",
            "KEYROAMING",
            "SYSTEM",
            "USER",
            "-RegisterDevice -ProtectionStateChanged -FreeNetworkOnly",
        ],
    ),
    (
        "{library}",
        &[
            "shell32.dll,SHCreateLocalServerRunDll",
            "davclnt.dll,DavSetCookie",
            "Windows.StateRepositoryClient.dll,Maintain",
            "PcaSvc.dll,PcaPatchSdbTask",
        ],
    ),
    ("{channel}", &["stable", "early"]),
    ("{drive}", &["H", "P", "S"]),
    ("{share}", &["home", "projects", "scans"]),
    ("{log}", &["Security", "System", "Application"]),
];

fn expand(template: &Template) -> Vec<Entry> {
    let Template(image, cmdline, parent_image, parent_cmdline, cwd, rights) = *template;
    let first = Entry {
        image: image.to_owned(),
        cmdline: cmdline.replace("{image}", image),
        parent_image: parent_image.to_owned(),
        parent_cmdline: parent_cmdline.replace("{parent}", parent_image),
        cwd,
        rights,
    };
    LISTS.iter().fold(vec![first], |entries, (placeholder, members)| {
        entries.into_iter().flat_map(|entry| fill(entry, placeholder, members)).collect()
    })
}

/// One entry per member where the placeholder stands, the entry itself where not.
fn fill(entry: Entry, placeholder: &str, members: &[&str]) -> Vec<Entry> {
    let texts = [&entry.image, &entry.cmdline, &entry.parent_image, &entry.parent_cmdline];
    if !texts.iter().any(|text| text.contains(placeholder)) {
        return vec![entry];
    }
    let with = |member: &&str| Entry {
        image: entry.image.replace(placeholder, member),
        cmdline: entry.cmdline.replace(placeholder, member),
        parent_image: entry.parent_image.replace(placeholder, member),
        parent_cmdline: entry.parent_cmdline.replace(placeholder, member),
        ..entry.clone()
    };
    members.iter().map(with).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn there_are_a_few_hundred_entries_and_no_two_alike() {
        let entries = entries();
        assert!((200..600).contains(&entries.len()), "{}", entries.len());
        let distinct: HashSet<_> = entries
            .iter()
            .map(|entry| (&entry.image, &entry.cmdline, &entry.parent_image, &entry.parent_cmdline))
            .collect();
        assert_eq!(distinct.len(), entries.len());
    }

    #[test]
    fn no_list_placeholder_is_left() {
        for entry in entries() {
            let text = format!("{} {} {}", entry.image, entry.cmdline, entry.parent_cmdline);
            let rest =
                ["{user}", "{number}", "{hex}", "{guid}"].iter().fold(text, |text, known| text.replace(known, ""));
            assert!(!rest.contains('{') || rest.contains("{}"), "{rest}");
        }
    }
}
