// What the box widget lacks.
// - It ends a drag only where the button is let go on the photo. Here the pointer that began a drag keeps it until
//   it is let go, wherever that is, within the photo all the while; a second pointer is left alone.
// - It knows no fingers: theirs become a mouse's.
// - A box too small to be meant is dropped before anybody searches it.
// - It keeps Tab to itself, to step through its boxes. With one box Tab shall leave the photo, and the box is
//   selected for the keys that move it as soon as the photo has the focus.
export default {
  render({ model, el }) {
    let pointer = null;  // its number and where it was last
    let strange = false;  // the mouse began something while another pointer drags
    const photo = () => el.querySelector("svg");
    const onPhoto = (event) => Boolean(photo()?.contains(event.target));
    const act = (kind, place, target) => target.dispatchEvent(new MouseEvent(kind, {
      bubbles: true, cancelable: true, button: 0, clientX: place.clientX, clientY: place.clientY,
    }));

    const begin = (event) => {
      strange = pointer !== null;
      if (strange || !onPhoto(event) || event.button !== 0) return;
      pointer = { id: event.pointerId, place: event };
      if (event.pointerType !== "mouse") act("mousedown", event, event.target);
    };
    const move = (event) => {
      if (event.pointerId !== pointer?.id) return;
      if (event.buttons === 0) return end(event);  // let go where no browser told
      const area = photo().getBoundingClientRect();
      pointer.place = {
        clientX: Math.min(Math.max(event.clientX, area.left), area.right),
        clientY: Math.min(Math.max(event.clientY, area.top), area.bottom),
      };
      act("mousemove", pointer.place, photo());
    };
    const end = (event) => {
      if (pointer === null) return;
      if (event.type === "blur" ? event.target !== window : event.pointerId !== pointer.id) return;
      const { place } = pointer;
      pointer = null;
      drop();
      act("mouseup", place, photo());
    };
    const drop = () => {
      const scale = photo().getBoundingClientRect().width / el.querySelector("img").naturalWidth;
      const boxes = model.get("bboxes");
      const whole = boxes.filter((box) => Math.min(box.width, box.height) * scale >= SMALLEST_BOX);
      if (whole.length === boxes.length) return;
      model.set("bboxes", whole);
      model.set("dropped", model.get("dropped") + 1);
      model.save_changes();
    };

    // Moves and ends reach the widget from above only, not from the browser as well.
    const silence = (event) => {
      if (event.isTrusted && onPhoto(event)) event.stopImmediatePropagation();
    };
    const listeners = [
      [el, "pointerdown", begin],
      [window, "pointermove", move],
      [window, "pointerup", end],
      [window, "pointercancel", end],
      [window, "blur", end],
      [el, "mousedown", (event) => { if (strange) silence(event); }],
      [el, "mousemove", silence],
      [el, "mouseup", silence],
      [el, "touchstart", (event) => { if (event.touches.length === 1 && onPhoto(event)) event.preventDefault(); }],
      [el, "keydown", (event) => { if (event.key === "Tab") event.stopPropagation(); }],
      [el, "focusin", () => {
        if (model.get("selected_index") < 0 && model.get("bboxes").length === 1) {
          model.set("selected_index", 0);
          model.save_changes();
        }
      }],
    ];
    const how = { capture: true, passive: false };
    for (const [target, kind, listener] of listeners) target.addEventListener(kind, listener, how);
    const remove = WIDGET.render({ model, el });
    return () => {
      for (const [target, kind, listener] of listeners) target.removeEventListener(kind, listener, how);
      remove();
    };
  },
};
