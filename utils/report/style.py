"""The style sheet: light, dark, on paper, and on a phone. Nothing in it is loaded from anywhere.

Charts are laid out in per cent across and in pixels down, so that their words stay readable at any width; the gutter
for the labels of their vertical axis lies left of the drawing. Colour never carries anything alone: steps of confidence
differ in their underline or height, bands in their hatching, markers in their shape and row.
"""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root{color-scheme:light;--bg:#f6f7f9;--panel:#fff;--fg:#1b1f24;--muted:#57606a;--line:#d5dae1;--accent:#0b5cad;
--ok:#1a7f37;--warn:#8a5a00;--bad:#b42318;--area:#cfe2f7;--wait:#e9ecf0;--recover:#fbe3d6;
--c1:#fdf6d8;--c2:#fce3ac;--c3:#f9c48d;--c4:#f5a19b;--b1:#9a7b00;--b2:#b86a00;--b3:#c2480c;--b4:#8f1610;--hid:#dfe7ff}
@media screen and (prefers-color-scheme:dark){:root{color-scheme:dark;--bg:#0f1216;--panel:#171b21;--fg:#e6e9ee;
--muted:#a0a9b6;--line:#313843;--accent:#79b8ff;--ok:#56d08e;--warn:#e3b341;--bad:#ff8a80;--area:#1f3a58;
--wait:#20262e;--recover:#46281c;--c1:#36321c;--c2:#51421a;--c3:#6d3f19;--c4:#7f2b2b;--b1:#a8913a;--b2:#cf8a2e;--b3:#e4733a;--b4:#ff7b72;--hid:#2a3566}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
overflow-wrap:anywhere}
main,header,footer{max-width:62rem;margin:0 auto;padding:0 1rem}
header{padding-top:1.5rem}
footer{padding-bottom:2rem;color:var(--muted);font-size:.875rem}
h1{font-size:1.05rem;font-weight:600;color:var(--muted);margin:0}
h2{font-size:1.25rem;margin:0 0 .75rem}
h3{font-size:1rem;margin:1.25rem 0 .5rem}
p{margin:.5rem 0}
a{color:var(--accent);text-underline-offset:.15em}
code,.answer,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
code{font-size:.9em;unicode-bidi:isolate}
section{background:var(--panel);border:1px solid var(--line);border-radius:.6rem;padding:1.1rem 1.25rem;margin:1rem 0}
nav{margin:.75rem 0 0;font-size:.9rem}
nav a{display:inline-block;margin:0 .9rem .25rem 0}
.verdict{font-size:1.3rem;line-height:1.35;font-weight:600;margin:.25rem 0 .75rem}
.badge{display:inline-block;border:2px solid currentColor;border-radius:2rem;padding:0 .6rem;font-size:.95rem;
font-weight:700;margin-right:.5rem;white-space:nowrap}
.ok{color:var(--ok)}.warn{color:var(--warn)}.bad{color:var(--bad)}
data{white-space:nowrap}
.na,.note,caption,figcaption,.unit{color:var(--muted)}
.note,figcaption{font-size:.875rem}
.facts{display:grid;grid-template-columns:fit-content(45%) 1fr;gap:.15rem 1rem;margin:0 0 .5rem}
.facts dt{color:var(--muted)}.facts dd{margin:0}
.cards{display:grid;grid-template-columns:repeat(6,1fr);gap:.75rem;margin:0}
.cards div{border:1px solid var(--line);border-radius:.5rem;padding:.6rem .75rem}
.cards dt{font-size:.875rem}.cards dd{margin:0}
.cards .value{font-size:1.45rem;font-weight:650;font-variant-numeric:tabular-nums;line-height:1.3}
.cards .note{margin:0;line-height:1.35}
.scroll{overflow-x:auto;margin:.9rem 0}
table{border-collapse:collapse;font-size:.925rem;font-variant-numeric:tabular-nums;min-width:40%}
caption{text-align:left;font-size:.875rem;padding-bottom:.25rem}
th,td{text-align:left;padding:.25rem 1.1rem .25rem 0;border-bottom:1px solid var(--line);vertical-align:top;
overflow-wrap:normal}
td code{overflow-wrap:normal}
th{font-weight:600;color:var(--muted);font-size:.85rem}
figure{margin:.5rem 0 1rem}
.chart{display:block;width:calc(100% - 4.25rem);margin-left:4.25rem;overflow:visible;font-size:12px}
.chart text{fill:var(--muted)}
.chart .strong{fill:var(--fg);font-weight:600;paint-order:stroke;stroke:var(--panel);stroke-width:4px;
stroke-linejoin:round}
.grid{stroke:var(--line);stroke-width:1}
.curve{fill:none;stroke:var(--accent);stroke-width:2;vector-effect:non-scaling-stroke;stroke-linejoin:round}
.thin{stroke-width:1}
.under{fill:var(--area);stroke:none;opacity:.55}
.bar{fill:var(--accent);opacity:.8}
.hatch-wait{fill:var(--wait)}.hatch-recover{fill:var(--recover)}
.hatch-line{stroke:var(--bad);stroke-width:1.2;opacity:.4}.hatch-dot{fill:var(--muted);opacity:.6}
.mark{stroke:currentColor;stroke-width:2;fill:none;stroke-linejoin:round;stroke-linecap:round}
.mark.full{fill:currentColor}
.chart .ok,.chart .warn,.chart .bad,.chart .plain{stroke:currentColor}
.plain{color:var(--muted)}.info{color:var(--accent)}
.quantile{stroke:var(--fg);stroke-width:1.5}
.legend{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;list-style:none;padding:0;margin:.25rem 0 .5rem;
font-size:.875rem}
.swatch{display:inline-block;width:1.5rem;height:.8rem;border:1px solid var(--line);margin-right:.4rem;
vertical-align:-.05rem}
.swatch.wait{background:radial-gradient(circle,var(--muted) 1px,var(--wait) 1.4px) 0 0/6px 6px}
.swatch.recover{background:repeating-linear-gradient(135deg,var(--bad) 0 1px,var(--recover) 1px 5px)}
.events{list-style:none;padding:0;margin:.5rem 0;font-size:.925rem}
.events li{display:grid;grid-template-columns:5.5rem 6rem 1fr;gap:0 .6rem;padding:.2rem 0;
border-bottom:1px solid var(--line)}
.events .at{text-align:right;font-variant-numeric:tabular-nums;color:var(--muted);white-space:nowrap}
.events .kind{font-weight:600;white-space:nowrap}
.answer{white-space:pre-wrap;font-size:.9rem;line-height:1.75;border:1px solid var(--line);border-radius:.5rem;
padding:.75rem .9rem;margin:.75rem 0;unicode-bidi:isolate;tab-size:4}
i{font-style:normal}
.c1,.c2,.c3,.c4{text-underline-offset:.2em;text-decoration-skip-ink:none;text-decoration-color:currentColor}
.c1{background:var(--c1);text-decoration:underline dotted 1px}
.c2{background:var(--c2);text-decoration:underline dashed 1px}
.c3{background:var(--c3);text-decoration:underline solid 2px}
.c4{background:var(--c4);text-decoration:underline double 2px}
.answer .none,.key.none{color:var(--muted);font-style:italic}
.hid{background:var(--hid);border:1px dashed var(--accent);border-radius:.2rem;padding:0 .1rem}
mark{color:inherit;background:none;border-block:2px solid var(--accent);padding-block:.15em;
-webkit-box-decoration-break:clone;box-decoration-break:clone}
mark::before{content:"lowest window \\25B8\\00A0"}mark::after{content:"\\00A0\\25C2"}
mark::before,mark::after{font:600 .75rem/1 system-ui,sans-serif;color:var(--accent)}
.blocks{display:flex;flex-wrap:wrap;align-items:flex-end;gap:2px 1px;margin:.75rem 0}
td .blocks{display:inline-flex;margin:0 .4rem 0 0;vertical-align:baseline}
.blocks i{width:7px;height:8px;background:var(--muted) padding-box;border-bottom:3px solid transparent;
text-decoration:none}
.blocks i.c0{opacity:.65}
.blocks i.c1{height:12px;background-color:var(--b1)}.blocks i.c2{height:17px;background-color:var(--b2)}
.blocks i.c3{height:22px;background-color:var(--b3)}.blocks i.c4{height:27px;background-color:var(--b4)}
.blocks i.none{height:5px}
.blocks i.low{border-bottom-color:var(--accent);opacity:1}
.key{display:inline-block;min-width:2.4rem;text-align:center;padding:0 .3rem}
details{margin:.6rem 0}
summary{cursor:pointer;color:var(--accent)}
.spread{display:grid;grid-template-columns:repeat(auto-fill,minmax(14rem,1fr));gap:.1rem 1.5rem;margin:.5rem 0;
font-size:.9rem}
.spread div{display:flex;justify-content:space-between;gap:1rem;border-bottom:1px solid var(--line)}
.spread dt{color:var(--muted)}.spread dd{margin:0;text-align:right;font-variant-numeric:tabular-nums}
.definitions{font-size:.9rem;margin:0;columns:22rem auto;column-gap:2rem}
.definitions dt{padding-top:.5rem;break-after:avoid;scroll-margin-top:1rem}.definitions dd{margin:0 0 0 1.25rem;
break-inside:avoid;color:var(--muted)}
:target{outline:2px solid var(--accent);outline-offset:3px;border-radius:.2rem}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
@media (max-width:56rem){.cards{grid-template-columns:repeat(3,1fr)}}
@media (max-width:34rem){body{font-size:15px}section{padding:.9rem .85rem;border-radius:.45rem}
main,header,footer{padding-inline:.6rem}.verdict{font-size:1.15rem}
.cards{grid-template-columns:repeat(2,1fr)}.cards .value{font-size:1.2rem}
.events li{grid-template-columns:4.5rem 1fr}th,td{padding-right:.5rem}.events .words{grid-column:1/-1}
.chart{width:calc(100% - 3.6rem);margin-left:3.6rem}}
@page{margin:14mm}
@media print{body{background:#fff;font-size:10pt}nav{display:none}main,header,footer{max-width:none;padding:0}
section{border:0;border-top:1px solid var(--line);border-radius:0;padding:.6rem 0 0}
h2,h3,caption{break-after:avoid}figure,.cards,tr,.events li,.spread div{break-inside:avoid}
.scroll{overflow:visible}a{color:inherit;text-decoration:none}
details::details-content{content-visibility:visible;block-size:auto}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
