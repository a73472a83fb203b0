// SPDX-License-Identifier: Apache-2.0
#include "octet/report/html_page.h"

#include <algorithm>

namespace octet {
namespace {

// Colours: blue and orange are told apart by every kind of colour vision (Okabe and Ito, 2008), and no two things
// differ by colour alone. Texts have a contrast of 4.5 or more to what is behind them, lines that matter 3 (WCAG 2.2).
// The steps of heat go evenly from the page's own lightness to its opposite.
constexpr const char* kStyle = R"(
:root{color-scheme:light dark;--page:#f4f6f8;--card:#fff;--ink:#1a2027;--dim:#566270;--line:#d5dce3;--grid:#e6ebf0;
--accent:#0b62b8;--accent-soft:#d7e7f7;--warm:#b44b00;--warm-soft:#fdf0e4;--stripe:#f7f9fb;
--heat0:#edf3fa;--heat1:#d8e6f4;--heat2:#bfd6ec;--heat3:#a0c3e3;--heat4:#7cabd7;--heat5:#5691c8;--heat6:#3775b4;
--heat7:#225a98;--heat8:#14417a;--heat9:#0a2853}
@media screen and (prefers-color-scheme:dark){:root{--page:#0f1419;--card:#171d24;--ink:#e4e9ee;--dim:#9ba7b4;
--line:#313b46;--grid:#27303a;--accent:#6cb4ff;--accent-soft:#1c3552;--warm:#f2a65e;--warm-soft:#33261a;--stripe:#1b222a;
--heat0:#1e2a37;--heat1:#20384f;--heat2:#234868;--heat3:#285a82;--heat4:#306e9d;--heat5:#3f84b8;--heat6:#589bcf;
--heat7:#7bb4e2;--heat8:#a6cff0;--heat9:#d6eafb}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
header,main,footer{max-width:1120px;margin:0 auto;padding:0 24px}
header{padding-top:36px}
h1{margin:0;font-size:1.9rem;line-height:1.2;overflow-wrap:anywhere}
.subtitle{margin:.35rem 0 0;color:var(--dim);overflow-wrap:anywhere}
nav{display:flex;flex-wrap:wrap;gap:4px 20px;margin:18px 0 0}
a{color:var(--accent)}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:20px 24px 24px;margin:20px 0}
h2{margin:0 0 12px;font-size:1.25rem}
h3{margin:24px 0 8px;font-size:1.02rem;overflow-wrap:anywhere}
p{margin:8px 0;max-width:76ch}
.remark{color:var(--dim);font-size:.9rem}
dl.facts{display:grid;grid-template-columns:max-content 1fr;gap:4px 20px;margin:8px 0}
dl.facts dt{color:var(--dim)}
dl.facts dd{margin:0;overflow-wrap:anywhere}
dl.facts .note{display:block;color:var(--dim);font-size:.87rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;margin:4px 0 8px}
.tiles>div{border:1px solid var(--line);border-left:4px solid var(--accent);border-radius:8px;padding:10px 14px}
.tiles .tile-name{color:var(--dim);font-size:.87rem}
.tiles .tile-value{font-size:1.3rem;font-weight:650;line-height:1.3;overflow-wrap:anywhere}
.tiles .tile-note{color:var(--dim);font-size:.87rem}
.warnings{list-style:none;margin:12px 0;padding:10px 16px;background:var(--warm-soft);border-left:4px solid var(--warm);
border-radius:6px}
.warnings li{padding-left:1.6em;text-indent:-1.6em;margin:3px 0;overflow-wrap:anywhere}
.warnings li::before{content:"\26A0\FE0E";display:inline-block;width:1.6em;text-indent:0;color:var(--warm)}
.scroll{overflow-x:auto;margin:8px 0}
.scroll:focus-visible,summary:focus-visible,a:focus-visible,th button:focus-visible{outline:2px solid var(--accent);
outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.91rem;font-variant-numeric:tabular-nums}
.caption{color:var(--dim);font-size:.9rem;margin:10px 0 0;max-width:none}
th,td{padding:6px 9px;text-align:left;font-weight:400;white-space:nowrap;border-bottom:1px solid var(--line)}
thead th{color:var(--ink);font-weight:600;vertical-align:bottom;white-space:normal;border-bottom:2px solid var(--line)}
th:first-child,td:first-child{padding-left:4px}
.number{text-align:right}
tbody .name,pre,code{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
tbody .name{font-size:.87rem}
.unit{display:block;color:var(--dim);font-weight:400}
tbody tr:nth-child(even){background:var(--stripe)}
tr.reference td,tr.reference th{color:var(--dim)}
.best{font-weight:700}
td.with-bar{min-width:230px}
.amount{display:inline-block;min-width:4.6em}
.track{display:inline-block;vertical-align:middle;width:calc(100% - 5.6em);min-width:70px;height:10px;margin-right:10px;
text-align:left;border-radius:2px;background:var(--grid)}
.bar{display:block;height:100%;border-radius:2px;background:var(--accent)}
thead button{all:unset;display:inline-block;cursor:pointer;font:inherit;position:relative}
thead button::after{content:"\2195\FE0E";position:absolute;top:0;right:-1.05em;color:var(--dim);font-weight:400;font-size:.85em}
thead .number button::after{right:auto;left:-1.05em}
thead th[aria-sort=ascending] button::after{content:"\2191";color:var(--accent)}
thead th[aria-sort=descending] button::after{content:"\2193";color:var(--accent)}
details{margin:12px 0}
summary{cursor:pointer;font-weight:600;color:var(--accent);overflow-wrap:anywhere}
pre{margin:8px 0;padding:12px 16px;background:var(--page);border:1px solid var(--line);border-radius:8px;overflow-x:auto;
font-size:.85rem;line-height:1.45}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(310px,100%),1fr));gap:18px 24px;margin:12px 0}
.figures.large{grid-template-columns:repeat(auto-fill,minmax(min(470px,100%),1fr))}
figure{margin:0;min-width:0}
figcaption{font-size:.9rem;font-weight:600;overflow-wrap:anywhere;margin-bottom:4px}
figure .note{color:var(--dim);font-size:.85rem;margin:4px 0 0}
svg.chart{display:block;max-width:100%;height:auto;overflow:visible}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif;fill:var(--ink);
font-variant-numeric:tabular-nums}
svg .tick{fill:var(--dim)}
svg .axis-title{fill:var(--ink);font-weight:600}
svg .grid{stroke:var(--grid);stroke-width:1}
svg .axis{stroke:var(--dim);stroke-width:1}
svg .code{stroke:var(--grid);stroke-width:1}
svg .mark{stroke:var(--warm);stroke-width:1.5;stroke-dasharray:5 3}
svg .mark-name{fill:var(--warm)}
svg .front{fill:none;stroke:var(--accent);stroke-width:1.5;stroke-dasharray:2 3}
svg .leader{stroke:var(--dim);stroke-width:1}
svg .predicted{fill:none;stroke:var(--warm);stroke-width:1.5}
svg .predicted-point{fill:var(--warm)}
svg .point{stroke:var(--card);stroke-width:1.5}
svg .on-front{fill:var(--accent)}
svg .off-front{fill:var(--warm)}
svg .marked{font-weight:700}
svg .point-name,svg .mark-name{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
svg .bins{fill:var(--accent)}
svg .clipped{fill:var(--warm)}
svg .heat-none{fill:none;stroke:var(--line);stroke-width:1}
svg .worst{fill:none;stroke:var(--warm);stroke-width:2.5}
.heat-0{fill:var(--heat0)}.heat-1{fill:var(--heat1)}.heat-2{fill:var(--heat2)}.heat-3{fill:var(--heat3)}
.heat-4{fill:var(--heat4)}.heat-5{fill:var(--heat5)}.heat-6{fill:var(--heat6)}.heat-7{fill:var(--heat7)}
.heat-8{fill:var(--heat8)}.heat-9{fill:var(--heat9)}
.narrow{display:none}
footer{color:var(--dim);font-size:.87rem;padding-bottom:40px}
@media (max-width:760px){header,main,footer{padding:0 12px}header{padding-top:20px}h1{font-size:1.5rem}
section{padding:14px 14px 18px;margin:14px 0}.wide{display:none}.narrow{display:block}
dl.facts{grid-template-columns:1fr;gap:0}dl.facts dd{margin-bottom:8px}.tiles{grid-template-columns:repeat(2,1fr)}
.tiles .tile-value{font-size:1.15rem}}
@media print{:root{color-scheme:light}body{background:#fff;font-size:10.5pt}nav,thead button::after{display:none}
section{border:0;padding:0;margin:0 0 18pt}header,main,footer{max-width:none;padding:0}
.scroll{overflow:visible}figure,tr,.tiles>div{break-inside:avoid}h2,h3{break-after:avoid}
.bar,.track,svg{print-color-adjust:exact;-webkit-print-color-adjust:exact}
details::details-content{content-visibility:visible;block-size:auto}}
)";

// A click on a column's head sorts by it, numbers the largest first; another turns the order. Cells without a value
// stay last, rows of references first.
constexpr const char* kScript = R"(
for (const table of document.querySelectorAll('table')) {
  const body = table.tBodies[0];
  if (body.rows.length < 3) continue;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement('button');
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => {
      const numbers = head.classList.contains('number');
      const first = numbers ? 'descending' : 'ascending', second = numbers ? 'ascending' : 'descending';
      const order = head.getAttribute('aria-sort') === first ? second : first;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', order);
      const sign = order === 'ascending' ? 1 : -1;
      const value = row => row.cells[column].dataset.value;
      const compare = (a, b) => numbers ? a - b : a.localeCompare(b);
      const rank = row => row.classList.contains('reference') ? 0 : value(row) === '' ? 2 : 1;
      body.append(...[...body.rows].sort((a, b) => rank(a) - rank(b) || sign * compare(value(a), value(b))));
    });
  });
}
addEventListener('beforeprint', () => document.querySelectorAll('details').forEach(part => part.open = true));
)";

constexpr const char* kPolicy =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

// Text whose names may be broken between their parts.
Markup breakable(std::string_view text) {
  Markup out;
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of("_."), text.size() - 1) + 1;
    out.text(text.substr(0, end));
    text.remove_prefix(end);
    // Not inside of numbers.
    const bool in_number = !text.empty() && text.front() >= '0' && text.front() <= '9';
    if (!text.empty() && !in_number) out.empty("wbr", {});
  }
  return out;
}

}  // namespace

HtmlPage::HtmlPage(std::string title, std::string subtitle)
    : title_(std::move(title)), subtitle_(std::move(subtitle)) {}

void HtmlPage::add_section(std::string id, std::string heading, Markup content) {
  sections_.push_back({std::move(id), std::move(heading), std::move(content)});
}

std::string HtmlPage::to_string() const {
  Markup page = Markup::trusted("<!DOCTYPE html>\n");
  page.open("html", {{"lang", "en"}}).open("head");
  page.empty("meta", {{"charset", "utf-8"}});
  page.empty("meta", {{"http-equiv", "Content-Security-Policy"}, {"content", kPolicy}});
  page.empty("meta", {{"name", "viewport"}, {"content", "width=device-width, initial-scale=1"}});
  page.empty("meta", {{"name", "referrer"}, {"content", "no-referrer"}});
  page.element("title", {}, title_).element("style", {}, Markup::trusted(kStyle)).close().open("body");
  page.open("header").element("h1", {}, title_);
  if (!subtitle_.empty()) page.element("p", {{"class", "subtitle"}}, subtitle_);
  page.open("nav", {{"aria-label", "Parts of this page"}});
  for (const Section& section : sections_) page.element("a", {{"href", "#" + section.id}}, section.heading);
  page.close().close().open("main");
  for (const Section& section : sections_) {
    page.open("section", {{"id", section.id}, {"aria-labelledby", section.id + "-heading"}});
    page.element("h2", {{"id", section.id + "-heading"}}, section.heading).add(section.content).close();
  }
  page.close();
  if (!footer_.empty()) page.element("footer", {}, footer_);
  page.element("script", {}, Markup::trusted(kScript)).close().close();
  return page.to_string() + "\n";
}

Markup paragraph(std::string_view text) { return Markup().element("p", {}, text); }
Markup remark(std::string_view text) { return Markup().element("p", {{"class", "remark"}}, text); }

Markup warning_list(const std::vector<std::string>& texts) {
  Markup out;
  if (texts.empty()) return out;
  out.open("ul", {{"class", "warnings"}});
  for (const std::string& text : texts) out.element("li", {}, text);
  return out.close();
}

Markup folded(std::string_view summary, const Markup& content, bool open) {
  Markup out;
  if (open) {
    out.open("details", {{"open", ""}});
  } else {
    out.open("details");
  }
  return out.element("summary", {}, summary).add(content).close();
}

Markup figure_grid(const std::vector<Figure>& figures, FigureSize size) {
  Markup out;
  out.open("div", {{"class", size == FigureSize::kLarge ? "figures large" : "figures"}});
  for (const Figure& figure : figures) {
    out.open("figure").element("figcaption", {}, figure.caption).add(figure.drawing);
    if (!figure.note.empty()) out.element("p", {{"class", "note"}}, figure.note);
    out.close();
  }
  return out.close();
}

Markup for_width(const Markup& wide, const Markup& narrow) {
  return Markup().element("div", {{"class", "wide"}}, wide).element("div", {{"class", "narrow"}}, narrow);
}

Markup fact_list(const std::vector<Fact>& facts) {
  Markup out;
  out.open("dl", {{"class", "facts"}});
  for (const Fact& fact : facts) {
    out.element("dt", {}, fact.name).open("dd").text(fact.value);
    if (!fact.note.empty()) out.element("span", {{"class", "note"}}, fact.note);
    out.close();
  }
  return out.close();
}

Markup fact_tiles(const std::vector<Fact>& facts) {
  Markup out;
  out.open("div", {{"class", "tiles"}});
  for (const Fact& fact : facts) {
    out.open("div")
        .element("div", {{"class", "tile-name"}}, fact.name)
        .element("div", {{"class", "tile-value"}}, breakable(fact.value));
    if (!fact.note.empty()) out.element("div", {{"class", "tile-note"}}, breakable(fact.note));
    out.close();
  }
  return out.close();
}

Markup code_block(std::string_view text) {
  return Markup().open("pre", {{"tabindex", "0"}}).element("code", {}, text).close();
}

}  // namespace octet
