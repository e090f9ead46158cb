#include "report_page.h"

#include "gato/core/text.h"
#include "html.h"

namespace gato::eval {
namespace {

// Nothing but what lies beside the page may be shown, whatever a task's name or a model's answer holds.
constexpr const char* kPolicy =
    "default-src 'none'; img-src data: 'self' file:; media-src data: 'self' file:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'";

constexpr const char* kStyle = R"(
:root{color-scheme:light dark;--ink:#1b2530;--soft:#566472;--line:#dbe2e8;--paper:#fff;--back:#f3f5f8;--accent:#1f5fa8;
--k0:#2b6cb0;--k1:#c2691b;--k2:#23795a;--k3:#8448b5;--k4:#b03a26;--k5:#5d6b78;--s0:#c2573f;--s1:#d08a3a;--s2:#bda32c;--s3:#5f9e56;--s4:#238a66;--right:#1f7352;--wrong:#b03a26}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9ee;--soft:#9eabb8;--line:#323c47;--paper:#1b2229;--back:#12171c;--accent:#7db4f0;
--k0:#6aa9e8;--k1:#e6994e;--k2:#5fbf97;--k3:#b98ae0;--k4:#e27d69;--k5:#9eabb8;--s0:#d06a52;--s1:#d9974a;--s2:#c9b144;--s3:#6fb066;--s4:#3aa67f;--right:#5fc79c;--wrong:#ee8a76}}
*{box-sizing:border-box}html{scroll-padding-top:56px}body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,"Segoe UI",Helvetica,Arial,sans-serif}
a{color:var(--accent)}:focus-visible{outline:2px solid var(--accent);outline-offset:2px}.skip{position:absolute;left:-9999px}.skip:focus{left:8px;top:8px;background:var(--paper);padding:6px 10px;z-index:9}
nav{position:sticky;top:0;z-index:5;background:var(--paper);border-bottom:1px solid var(--line);padding:8px 20px;display:flex;gap:6px 18px;overflow-x:auto;white-space:nowrap}nav a{text-decoration:none}nav a:hover{text-decoration:underline}nav a[aria-current]{color:var(--ink);font-weight:600}
nav button{margin-left:auto;position:sticky;right:0}main{max-width:1180px;margin:0 auto;padding:24px 20px 60px}h1{font-size:26px;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}h2{font-size:19px;margin:36px 0 10px}h3{font-size:16px;margin:24px 0 8px;overflow-wrap:anywhere}
.sub{color:var(--soft);margin:0 0 14px;max-width:75ch}.tiles{display:flex;flex-wrap:wrap;gap:12px}.tile,.card,.chart,.panel{background:var(--paper);border:1px solid var(--line);border-radius:10px}
.tile{padding:10px 18px;min-width:140px}.tile b{display:block;font-size:24px}.tile span{color:var(--soft);font-size:13px}.panel{padding:12px;overflow-x:auto;margin:0 0 14px}
.charts{display:grid;gap:14px;grid-template-columns:repeat(auto-fill,minmax(min(310px,100%),1fr))}.chart{margin:0;padding:12px}.chart figcaption{display:flex;gap:4px 12px;flex-wrap:wrap;align-items:baseline;font-size:13px}
.key{color:var(--soft)}.key i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:5px;background:currentColor}i.k0{color:var(--k0)}i.k1{color:var(--k1)}i.k2{color:var(--k2)}i.k3{color:var(--k3)}i.k4{color:var(--k4)}i.k5{color:var(--k5)}
.chart svg{width:100%;height:auto;display:block}.grid{stroke:var(--line)}.tick{font-size:11px;fill:var(--soft)}.line{fill:none;stroke-width:1.8;stroke-linejoin:round}.band{opacity:.18}
.line.k0{stroke:var(--k0)}.line.k1{stroke:var(--k1)}.line.k2{stroke:var(--k2)}.line.k3{stroke:var(--k3)}.line.k4{stroke:var(--k4)}.line.k5{stroke:var(--k5)}.dot.k0,.band.k0{fill:var(--k0)}.dot.k1,.band.k1{fill:var(--k1)}.dot.k2,.band.k2{fill:var(--k2)}.dot.k3,.band.k3{fill:var(--k3)}.dot.k4,.band.k4{fill:var(--k4)}.dot.k5,.band.k5{fill:var(--k5)}
.bar{width:154px;height:18px;display:block;--m:linear-gradient(var(--soft),var(--soft));background:var(--m) 10.71% 0/1px 100% no-repeat,linear-gradient(var(--line),var(--line)) 46.43% 0/1px 100% no-repeat,var(--m) 82.14% 0/1px 100% no-repeat}
.s0{fill:var(--s0)}.s1{fill:var(--s1)}.s2{fill:var(--s2)}.s3{fill:var(--s3)}.s4{fill:var(--s4)}.whisker{stroke:var(--ink);stroke-width:1.6}.tip{fill:var(--ink)}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}th,td{text-align:right;padding:4px 8px;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top}th{color:var(--soft);font-weight:600;vertical-align:bottom}
th:first-child,td:first-child,.t{text-align:left}td.t{white-space:normal;min-width:14ch}th:first-child,td:first-child{position:sticky;left:0;background:var(--paper);z-index:1}td:first-child{overflow-wrap:anywhere;white-space:normal;min-width:17ch}tbody tr:hover td{background:var(--back)}
th button{font:inherit;color:inherit;background:none;border:0;padding:0;cursor:pointer}th button::after{content:"\2002"}th[aria-sort=ascending] button::after{content:" \2191"}th[aria-sort=descending] button::after{content:" \2193"}
small,.note{color:var(--soft);font-size:12.5px}.find{display:flex;gap:8px 10px;flex-wrap:wrap;align-items:center;margin:0 0 10px;position:sticky;left:0}[hidden]{display:none!important}input,select,nav button{font:inherit;max-width:100%;padding:3px 8px;border:1px solid var(--line);border-radius:6px;background:var(--paper);color:var(--ink)}
.cards{display:grid;gap:14px;grid-template-columns:repeat(auto-fill,minmax(216px,1fr))}.card{padding:10px;font-size:13px;overflow-wrap:anywhere;unicode-bidi:isolate}.card img{display:block;margin:0 auto 8px;border-radius:6px;max-width:100%;height:auto;image-rendering:pixelated}.card pre{margin:4px 0}
.tasks{display:grid;gap:0 22px;grid-template-columns:repeat(auto-fill,minmax(min(550px,100%),1fr))}.tasks>article.wide{grid-column:1/-1}.shown{display:flex;flex-wrap:wrap;gap:10px}.shown figure{margin:0;flex:0 1 176px;min-width:130px;background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:9px;font-size:13px}.shown img{display:block;max-width:100%;height:auto;margin:0 auto 6px;border-radius:6px;image-rendering:pixelated;background:var(--back)}
.right{color:var(--right)}.wrong{color:var(--wrong)}.say{white-space:pre-wrap}summary{cursor:pointer}details{margin:10px 0}pre{background:var(--back);border:1px solid var(--line);padding:10px;border-radius:8px;overflow-x:auto;font-size:12.5px;white-space:pre-wrap;overflow-wrap:anywhere}
ul{padding-left:20px}article{min-width:0;content-visibility:auto;contain-intrinsic-size:auto 340px}.ok{color:var(--right)}.bad{color:var(--wrong)}
@media(max-width:640px){main{padding:16px 10px 40px}.bar{width:96px}th,td{padding:4px 5px}.shown figure{flex-basis:46%}.tile b{font-size:20px}nav{padding:8px 10px}.tile{min-width:46%;flex:1}th:first-child,td:first-child{min-width:15ch;max-width:42vw}}
@media print{nav,.find{display:none}.panel{overflow:visible}body{background:#fff}}
)";

// Finding and sorting of tables (buttons in their heads, so by keyboard too; / goes to the search), and holding of
// animations, which begin held where people ask for less motion.
constexpr const char* kScript = R"(
for(const p of document.querySelectorAll('.scores')){const t=p.querySelector('table'),body=t.tBodies[0],rows=[...body.rows],f=p.querySelector('.find');
if(f){f.hidden=false;const q=f.querySelector('input'),[d,s]=f.querySelectorAll('select'),o=f.querySelector('output');
const show=()=>{const words=q.value.toLowerCase().split(/\s+/).filter(Boolean);let n=0;for(const r of rows){const v=r.dataset.score===''?null:+r.dataset.score,w=s.value;
const on=(!d.value||r.dataset.domain===d.value)&&(!w||(w==='none'?v===null:v!==null&&(w==='low'?v<50:v>=+w)))&&words.every(x=>r.cells[0].textContent.toLowerCase().includes(x));r.hidden=!on;n+=on}
o.textContent=n+' of '+rows.length+' tasks'};q.oninput=d.onchange=s.onchange=show;show()}
const heads=[...t.tHead.rows[0].cells];heads.forEach((h,c)=>{if(h.dataset.plain!==undefined)return;const b=document.createElement('button');b.type='button';b.append(...h.childNodes);h.append(b);
b.onclick=()=>{const up=h.getAttribute('aria-sort')?h.getAttribute('aria-sort')==='descending':c===0;for(const x of heads)x.removeAttribute('aria-sort');h.setAttribute('aria-sort',up?'ascending':'descending');
const key=r=>{const x=r.cells[c],v=x.dataset.v??x.textContent;return c===0?v:v===''||isNaN(+v)?null:+v};const k=new Map(rows.map(r=>[r,key(r)]));
rows.sort((a,b)=>{const x=k.get(a),y=k.get(b);if(x===null||y===null)return(x===null)-(y===null);return(x<y?-1:x>y?1:0)*(up?1:-1)});body.append(...rows)}})}
document.addEventListener('keydown',e=>{const q=document.querySelector('.find input');if(e.key==='/'&&q&&!/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)){e.preventDefault();q.focus()}});
const moving=[...document.querySelectorAll('picture')];if(moving.length){const b=document.createElement('button');b.type='button';let held=matchMedia('(prefers-reduced-motion:reduce)').matches;
const set=()=>{b.textContent=held?'Play animations':'Hold animations';for(const p of moving)p.querySelector('source').media=held?'all':'not all'};b.onclick=()=>{held=!held;set()};set();document.querySelector('nav').append(b)}
)";

}  // namespace

std::string html_page(const std::string& title, const std::string& subtitle,
                      const std::vector<std::pair<std::string, std::string>>& links, const std::string& body) {
  std::string navigation;
  for (const auto& [address, text] : links) {
    navigation += cat("<a href='", escape_html(address), "'>", escape_html(text), "</a>");
  }
  return cat(
      "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
      "content='width=device-width,initial-scale=1'><meta http-equiv='Content-Security-Policy' content=\"",
      kPolicy, "\"><title>", escape_html(title), " – gato report</title><style>", kStyle,
      "</style></head><body><a class='skip' href='#content'>Skip to the content</a><nav aria-label='Report'>",
      navigation, "</nav><main id='content'><h1>", escape_html(title), "</h1><p class='sub'>", escape_html(subtitle),
      "</p>", body, "</main><script>", kScript, "</script></body></html>\n");
}

}  // namespace gato::eval
