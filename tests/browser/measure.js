// What a reader sees of the page, as numbers. Evaluated by the test: the page itself has no script.
(() => {
  const parse = (colour) => (colour.match(/[\d.]+/g) || []).map(Number);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const contrast = (a, b) => {
    const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const [r, g, b, alpha = 1] = parse(getComputedStyle(element).backgroundColor);
      if (alpha === 1) return [r, g, b];
      if (alpha !== 0) throw new Error("a half transparent background");
    }
    return [255, 255, 255];
  };
  const shown = (element) => {
    const box = element.getBoundingClientRect();
    return element.checkVisibility() && box.width > 1 && box.height > 1;
  };
  const all = [...document.body.querySelectorAll("*")].filter(shown);
  const spoken = all.filter((e) => [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim()));
  const colour = (e) => (e instanceof SVGElement ? getComputedStyle(e).fill : getComputedStyle(e).color);
  return {
    contrasts: spoken.map((e) => [contrast(parse(colour(e)), behind(e)), e.textContent.trim().slice(0, 60)]),
    smallest: Math.min(...spoken.map((e) => parseFloat(getComputedStyle(e).fontSize))),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    outside: all.filter((e) => !e.closest("thead")).filter((e) => {
      const box = e.getBoundingClientRect();
      return box.left < -0.5 || box.right > innerWidth + 0.5;
    }).map((e) => `${e.tagName} ${e.textContent.trim().slice(0, 60)}`),
    background: luminance(behind(document.body)),
    levels: [...document.querySelectorAll("h1, h2, h3, h4")].map((e) => Number(e.tagName[1])),
  };
})()
