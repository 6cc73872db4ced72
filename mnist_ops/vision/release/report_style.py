"""How the report of a model looks."""

STYLE = """
:root { color-scheme: light; --ink: #1f2933; --pale: #616e7c; --line: #e4e7eb; --ground: #f5f7fa; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header, main { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 36px; }
h1 { margin: 0; font-size: 28px; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 0 0 8px; font-size: 17px; }
p { margin: 4px 0 12px; color: var(--pale); }
p b { color: var(--ink); }
main { display: grid; gap: 20px; padding-top: 20px; padding-bottom: 48px; }
.tiles { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.tile, .card { background: #fff; border: 1px solid var(--line); border-radius: 10px; }
.tile { display: flex; flex-direction: column; padding: 14px 16px; }
.tile span, .tile small { color: var(--pale); font-size: 13px; }
.tile strong { font-size: 26px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.card { min-width: 0; padding: 18px 20px; }
.card p:last-child { margin-bottom: 0; }
.card img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.pair { display: grid; gap: 20px; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th { font-weight: 600; color: var(--pale); }
th, td { padding: 6px 10px; border-top: 1px solid var(--line); text-align: right; white-space: nowrap; }
thead th { border-top: 0; }
tr > :first-child { padding-left: 0; text-align: left; }
.pairs { margin: 0; font-size: 14px; }
.pairs div { display: grid; grid-template-columns: 150px 1fr; padding: 5px 0; break-inside: avoid; }
.pairs dt { color: var(--pale); font-weight: 600; }
.pairs dd { margin: 0; overflow-wrap: anywhere; }
.columns { columns: 3 260px; column-gap: 32px; }
.card .scroll + p { margin-top: 12px; }
@media print { body { background: #fff; } .card, .tile { break-inside: avoid; } }
"""
