//! The page for people, in a real Chromium: nothing in it breaks its policy, names from outside are texts, axe-core finds
//! no fault, and it can be read in light, in dark and on a phone.

mod lists;
mod serving;
mod shot;

use anyhow::{Context, Result, ensure};
use fakes::{Status, execution};
use host_tests::browser::{Browser, View};
use host_tests::scene::{Scene, TAG_KEY, now_ms};
use host_tests::{Envoy, STATUS};
use serde_json::{Value, json};
use serving::{Pages, Site};
use std::path::Path;
use testrelay::surface::page;
use testrelay::surface::problem::Reply;

const BASE: &str = "/testrelay";
/// `TESTRELAY_SCREENSHOTS=1` writes what the test sees into `envoy/images/`.
const SCREENSHOTS: &str = "TESTRELAY_SCREENSHOTS";
/// Maximum bytes of a screenshot, which everybody clones.
const MAX_SHOT: usize = 60_000;

const LIGHT: View = View { width: 1_000, height: 760, dark: false };
const DARK: View = View { dark: true, ..LIGHT };
const PHONE: View = View { width: 390, height: 760, dark: false };
const PHONE_DARK: View = View { dark: true, ..PHONE };

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

/// The pages of a list.
fn pages(list: Value) -> impl Fn(&str) -> Reply + Send + 'static {
    move |target| {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let id = path.strip_prefix("/testrelay/checks/");
        let checks = list["checks"].as_array().into_iter().flatten();
        match (path, checks.into_iter().find(|check| check["id"].as_str() == id)) {
            ("/testrelay/", _) => page::overview(&list, lists::now(), BASE, query),
            (_, Some(check)) => page::one(check, lists::now(), BASE),
            _ => {
                page::problem(Reply::problem(404, "No such check", "No check with this id is pending."), BASE)
            }
        }
    }
}

/// The address of the check that the tests follow.
const CHECK: &str = "/testrelay/checks/5f0c7d1e9ab32c64";

/// Nothing that the page's policy forbids, and no word in the browser's console.
fn is_silent(browser: &Browser) -> Result<()> {
    let complaints = browser.complaints()?;
    ensure!(complaints.is_empty(), "{complaints:#?}");
    Ok(())
}

/// Nothing is wider than the window.
fn fits(browser: &Browser) -> Result<()> {
    let wide =
        browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")?;
    ensure!(wide == json!(0), "{wide} pixels wider than the window");
    Ok(())
}

/// Makes the page refresh itself now, as it does each 15 seconds.
fn refresh(browser: &Browser) -> Result<()> {
    browser.run("document.dispatchEvent(new Event('visibilitychange'))").map(drop)
}

#[test]
fn a_check_in_a_real_envoy_is_followed_from_its_arrival_to_its_decision() -> Result<()> {
    let Some(browser) = Browser::start()? else { return Ok(()) };
    let scene = Scene::new()?;
    let envoy = Envoy::start(&scene.setup()?)?;
    let run = scene.pipeline(1);
    let hostile = "<script>document.title=1</script>";
    let running = execution("shop-e2e").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Running);
    let running = scene.execution(running);
    scene.execution(execution("shop-other").tag(TAG_KEY, &run.tag).at(now_ms(), Status::Passed));
    let answer = run.check("shop-e2e").send(envoy.address())?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.json()?["id"].as_str().context("no id")?.to_owned();

    browser.view(LIGHT)?;
    let site = Site { address: envoy.address(), user: "people", password: STATUS };
    browser.open(&site.at("/testrelay/"))?;
    ensure!(!browser.text("document.body.innerText")?.contains(&run.tag), "shown without a password");
    // The browser's own word on the answer 401.
    browser.complaints()?;
    browser.open(&site.log_in("/testrelay/"))?;
    assert_eq!(browser.text("document.title")?, "1 waiting · Testrelay");
    browser.run(&format!("document.querySelector('table.w a[href$=\"{id}\"]').click()"))?;
    browser.wait_until(&format!("location.pathname.endsWith('/checks/{id}')"))?;
    let says = |text: &str| {
        let shown = format!("document.querySelector('main').innerText.includes({})", json!(text));
        let shown = format!("(document.dispatchEvent(new Event('visibilitychange')), {shown})");
        browser.wait_until(&shown)
    };
    says(&format!(
        "Waits for the end of shop-e2e-1. 1 of 2 executions tagged {TAG_KEY}={} have ended.",
        run.tag
    ))?;
    assert_eq!(browser.text("document.querySelectorAll('table.e svg rect').length")?, "2");

    let failed = |execution: fakes::Execution| execution.at(now_ms(), Status::Failed);
    ensure!(scene.testkube().change(&running, failed), "no such execution");
    says("1 of 2 executions tagged")?;
    says("did not pass")?;
    browser.wait_until("document.title.includes('done')")?;
    browser.open(&site.at("/testrelay/"))?;
    assert_eq!(browser.text("document.title")?, "0 waiting · Testrelay");
    ensure!(browser.text("document.querySelector('table.d').innerText")?.contains(&run.tag));
    browser.open(&site.at(&format!("/testrelay/?tag={}&state=done", run.tag)))?;
    ensure!(browser.text("document.querySelector('table.d').innerText")?.contains(&run.tag));
    is_silent(&browser)?;
    browser.open(&site.at(&format!("/testrelay/?state={hostile}")))?;
    ensure!(browser.text("document.body.innerText")?.contains("The parameters cannot be read"));
    Ok(())
}

#[test]
fn somebody_logs_in_and_follows_a_check_to_its_end() -> Result<()> {
    let Some(browser) = Browser::start()? else { return Ok(()) };
    let served = Pages::serve(pages(lists::list(lists::waiting())))?;
    browser.view(LIGHT)?;
    browser.open(&served.site.at("/testrelay/"))?;
    ensure!(!browser.text("document.body.innerText")?.contains("shop-4711"), "shown without a password");
    // The browser's own word on the answer 401.
    browser.complaints()?;

    browser.open(&served.site.log_in("/testrelay/"))?;
    assert_eq!(browser.text("document.title")?, "2 waiting · Testrelay");
    browser.run("document.querySelector('table.w a[href$=\"5f0c7d1e9ab32c64\"]').click()")?;
    browser.wait_until("location.pathname.endsWith('/checks/5f0c7d1e9ab32c64')")?;
    let shown = browser.text("document.querySelector('main').innerText")?;
    ensure!(shown.contains("Waits for shop-e2e-1") && shown.contains("for 7 min 49 s"), "{shown}");
    assert_eq!(browser.text("document.querySelectorAll('table.e svg rect').length")?, "2");

    served.now_answers(pages(lists::list(lists::failed())));
    refresh(&browser)?;
    browser.wait_until("document.querySelector('main').innerText.includes('1 of 2 executions failed')")?;
    assert_eq!(browser.text("document.title")?, "ado-run=shop-4711: done · Testrelay");
    is_silent(&browser)?;

    // What is shown stays, and the page says that it is old.
    served.now_answers(|_| page::problem(Reply::problem(503, "No", "Not now."), BASE));
    refresh(&browser)?;
    browser
        .wait_until("document.getElementById('note').textContent.startsWith('Not refreshed: HTTP 503.')")?;
    ensure!(browser.text("document.querySelector('main').innerText")?.contains("executions failed"));
    Ok(())
}

#[test]
fn a_keyboard_and_a_browser_without_scripts_are_enough() -> Result<()> {
    let Some(browser) = Browser::start()? else { return Ok(()) };
    let served = Pages::serve(pages(lists::list(lists::waiting())))?;
    browser.view(LIGHT)?;
    browser.open(&served.site.log_in("/testrelay/"))?;
    let focused = || browser.text("document.activeElement.innerText");
    let mut reached = Vec::new();
    for _ in 0..5 {
        browser.press(TAB)?;
        reached.push(focused()?);
    }
    assert_eq!(
        reached,
        ["Skip to the content", "Testrelay: all checks", "Refresh", "Pause refresh", "ado-run=billing-988"]
    );
    assert_eq!(browser.text("getComputedStyle(document.activeElement).outlineStyle")?, "solid");
    // A refresh leaves the focus where it was.
    served.now_answers(pages(lists::list(lists::failed())));
    refresh(&browser)?;
    browser.wait_until("document.title.startsWith('1 waiting')")?;
    assert_eq!(focused()?, "ado-run=billing-988");
    browser.press(ENTER)?;
    browser.wait_until("document.title.startsWith('ado-run=billing-988: waiting')")?;
    browser.press(TAB)?;
    browser.press(ENTER)?;
    browser.wait_until("document.activeElement.id === 'main'")?;
    // Paused, it fetches nothing.
    browser.run("document.getElementById('pause').click()")?;
    assert_eq!(browser.text("document.getElementById('pause').innerText")?, "Resume refresh");
    is_silent(&browser)?;

    browser.scripts(false)?;
    browser.open(&served.site.at("/testrelay/"))?;
    assert_eq!(browser.text("document.getElementById('pause').checkVisibility()")?, "false");
    assert_eq!(browser.text("document.querySelectorAll('tbody tr').length")?, "7");
    is_silent(&browser)
}

#[test]
fn hostile_names_run_nothing_and_move_nothing() -> Result<()> {
    let Some(browser) = Browser::start()? else { return Ok(()) };
    let long = "x".repeat(10_000);
    let served = Pages::serve(|_| Reply::text(404, "nothing yet"))?;
    for text in [
        "<script>window.hacked = 1</script>",
        "\"><img src=x onerror='window.hacked = 1'>",
        "'/><svg onload=window.hacked=1><style>main{display:none}</style>",
        "\u{202e}dessap\u{2066} שלום",
        &long,
    ] {
        served.now_answers(pages(lists::hostile(text)));
        for (path, view) in [("/testrelay/", LIGHT), ("/testrelay/", PHONE), (CHECK, LIGHT), (CHECK, PHONE)] {
            browser.view(view)?;
            browser.open(&served.site.log_in(path))?;
            refresh(&browser)?;
            browser.wait_until("document.readyState === 'complete'")?;
            assert_eq!(browser.text("window.hacked")?, "undefined", "{text}");
            assert_eq!(
                browser.text("document.querySelectorAll('img, main script, main style').length")?,
                "0"
            );
            let shown = browser.text("document.querySelector('main').textContent")?;
            let start: String = text.chars().take(20).collect();
            ensure!(text.contains('\u{202e}') || shown.contains(&start), "{start} is not shown:\n{shown}");
            ensure!(!shown.contains('\u{202e}') && !shown.contains('\u{2066}'));
            fits(&browser).with_context(|| format!("{path} {view:?} {start}"))?;
            is_silent(&browser)?;
        }
    }
    Ok(())
}

#[test]
fn everybody_can_read_the_pages_in_light_in_dark_and_on_a_phone() -> Result<()> {
    let Some(browser) = Browser::start()? else { return Ok(()) };
    let served = Pages::serve(pages(lists::list(lists::waiting())))?;
    for (view, look) in [(LIGHT, "light"), (DARK, "dark"), (PHONE, "phone"), (PHONE_DARK, "phone-dark")] {
        browser.view(view)?;
        for (path, name) in
            [("/testrelay/", "checks"), (CHECK, "check"), ("/testrelay/checks/none", "missing")]
        {
            browser.open(&served.site.log_in(path))?;
            let faults = browser.accessibility()?;
            ensure!(faults.is_empty(), "{path} {look}: {faults:#?}");
            fits(&browser).with_context(|| format!("{path} {look}"))?;
            let back = browser.text("getComputedStyle(document.body).backgroundColor")?;
            assert_eq!(back == "rgb(255, 255, 255)", !view.dark, "{back}");
            if name != "missing" {
                is_silent(&browser)?;
                keep(&format!("{name}-{look}.png"), &browser.screenshot()?)?;
            }
        }
        // The browser's own word on the answer 404.
        browser.complaints()?;
    }
    Ok(())
}

/// Writes a screenshot, if that is wanted.
fn keep(name: &str, shot: &[u8]) -> Result<()> {
    let shot = shot::small(shot)?;
    if std::env::var_os(SCREENSHOTS).is_some() && !name.contains("phone-dark") {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy/images");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), &shot)?;
    }
    ensure!(shot.len() <= MAX_SHOT, "{name} has {} bytes", shot.len());
    Ok(())
}

#[test]
fn a_page_that_breaks_its_policy_or_hides_from_some_is_noticed() -> Result<()> {
    let Some(browser) = Browser::start()? else { return Ok(()) };
    let served = Pages::serve(|target| {
        let mut reply = page::overview(&lists::list(lists::waiting()), lists::now(), BASE, "");
        reply.body = match target {
            "/style" => reply.body.replace("<h1>", "<h1 style=\"color:red\">"),
            "/script" => reply.body.replace("<h1>", "<h1><script>window.hacked = 1</script>"),
            "/image" => reply.body.replace("<h1>", "<h1><img alt=\"\" src=\"/x.png\">"),
            "/lang" => reply.body.replace(" lang=\"en-GB\"", ""),
            _ => reply.body,
        };
        reply
    })?;
    for (path, directive) in
        [("/style", "style-src-attr"), ("/script", "script-src-elem"), ("/image", "img-src")]
    {
        browser.open(&served.site.log_in(path))?;
        let complaints = browser.complaints()?;
        ensure!(complaints.iter().any(|one| one.contains(directive)), "{path}: {complaints:?}");
    }
    assert_eq!(browser.text("window.hacked")?, "undefined");
    browser.open(&served.site.log_in("/lang"))?;
    let faults = browser.accessibility()?;
    ensure!(faults.iter().any(|fault| fault.starts_with("html-has-lang: ")), "{faults:?}");
    Ok(())
}
