#include "env/grid/grid_drawing.h"

#include <cmath>

#include "env/canvas.h"

namespace gato::env::grid {

namespace {

constexpr int kCell = 32;     // pixels
constexpr int kCaption = 24;  // pixels above the room
constexpr Color kPage = {250, 250, 250};
constexpr Color kInk = {40, 44, 52};
constexpr Color kLine = {96, 100, 108};
constexpr Color kFloorUnseen = {34, 36, 42}, kFloorSeen = {62, 66, 74}, kFloorLit = {128, 132, 122};
constexpr Color kWallUnseen = {74, 78, 86}, kWallLit = {150, 152, 150};
constexpr Color kAgent = {255, 255, 255};
constexpr Color kGoalFrame = {255, 255, 255};
constexpr std::array<Color, 6> kObjectColors = {
    {{226, 52, 48}, {52, 190, 72}, {66, 108, 240}, {242, 208, 48}, {164, 76, 214}, {172, 176, 184}}};

struct Corner {
  int x = 0, y = 0;  // top left pixel of a cell
};

void draw_ball(Canvas& canvas, Corner at, Color color) {
  canvas.disc(at.x + kCell / 2.0, at.y + kCell / 2.0, kCell * 0.32, color);
}

/// A ring with a shaft and two teeth.
void draw_key(Canvas& canvas, Corner at, Color color) {
  const double ring_x = at.x + kCell * 0.44, ring_y = at.y + kCell * 0.30;
  canvas.shape(at.x, at.y, at.x + kCell, at.y + kCell, color, [=](double x, double y) {
    const double distance = std::hypot(x - ring_x, y - ring_y);
    const bool ring = distance <= kCell * 0.18 && distance >= kCell * 0.08;
    const double u = (x - ring_x) / kCell, v = (y - ring_y) / kCell;
    const bool shaft = std::abs(u) <= 0.055 && v >= 0.14 && v <= 0.56;
    const bool teeth = u >= 0 && u <= 0.2 && ((v >= 0.34 && v <= 0.42) || (v >= 0.48 && v <= 0.56));
    return ring || shaft || teeth;
  });
}

/// A box seen from above: a frame and the two halves of its lid.
void draw_box(Canvas& canvas, Corner at, Color color) {
  const int margin = kCell / 6, side = kCell - 2 * margin, wall = kCell / 10;
  const Color inner = {static_cast<uint8_t>(color.red / 2), static_cast<uint8_t>(color.green / 2),
                       static_cast<uint8_t>(color.blue / 2)};
  canvas.rectangle(at.x + margin, at.y + margin, side, side, color);
  canvas.rectangle(at.x + margin + wall, at.y + margin + wall, side - 2 * wall, side - 2 * wall, inner);
  canvas.rectangle(at.x + margin, at.y + kCell / 2 - 1, side, 2, color);
}

/// A triangle that points where the agent looks.
void draw_agent(Canvas& canvas, Corner at, int direction) {
  const double middle_x = at.x + kCell / 2.0, middle_y = at.y + kCell / 2.0;
  canvas.shape(at.x, at.y, at.x + kCell, at.y + kCell, kAgent, [=](double x, double y) {
    const double u = (x - middle_x) / kCell, v = (y - middle_y) / kCell;
    // Turned so that the agent looks up: ahead is -v.
    constexpr std::array<std::array<double, 4>, 4> kTurn = {
        {{1, 0, 0, 1}, {0, 1, -1, 0}, {-1, 0, 0, -1}, {0, -1, 1, 0}}};
    const auto& turn = kTurn[static_cast<size_t>(direction)];
    const double across = turn[0] * u + turn[1] * v, ahead = -(turn[2] * u + turn[3] * v);
    return ahead >= -0.3 && std::abs(across) <= (0.38 - ahead) * 0.42;
  });
}

void draw_object(Canvas& canvas, Corner at, Cell object) {
  const Color color = kObjectColors[static_cast<size_t>(color_of(object))];
  const int kind = kind_of(object);
  if (kind == 0) draw_ball(canvas, at, color);
  if (kind == 1) draw_key(canvas, at, color);
  if (kind == 2) draw_box(canvas, at, color);
}

/// A closed door fills its cell, an open one stands at its side; a locked one has a keyhole.
void draw_door(Canvas& canvas, Corner at, Cell door) {
  const Color color = kObjectColors[static_cast<size_t>(door_color(door))];
  const Color dark = {static_cast<uint8_t>(color.red / 2), static_cast<uint8_t>(color.green / 2),
                      static_cast<uint8_t>(color.blue / 2)};
  constexpr int kInset = 3, kThick = 5;
  canvas.rectangle(at.x, at.y, kCell, kCell, kFloorUnseen);
  if (door_state(door) == Door::kOpen) {
    canvas.rectangle(at.x + kInset, at.y + kInset, kThick, kCell - 2 * kInset, color);
    return;
  }
  canvas.rectangle(at.x + kInset, at.y + kInset, kCell - 2 * kInset, kCell - 2 * kInset, color);
  if (door_state(door) == Door::kLocked) {
    canvas.disc(at.x + kCell / 2.0, at.y + kCell / 2.0 - 3, 4, dark);
    canvas.rectangle(at.x + kCell / 2 - 2, at.y + kCell / 2 - 3, 4, 11, dark);
  } else {
    canvas.disc(at.x + kCell * 0.72, at.y + kCell / 2.0, 3, dark);
  }
}

void draw_cell(Canvas& canvas, const World& world, Position p, Corner at, bool lit) {
  const Cell cell = world.at(p);
  const bool wall = cell == kWall;
  Color ground = wall ? kWallUnseen : (world.seen_at(p) ? kFloorSeen : kFloorUnseen);
  if (lit) ground = wall ? kWallLit : kFloorLit;
  canvas.rectangle(at.x, at.y, kCell, kCell, ground);
  if (wall) return;
  if (is_door(cell)) return draw_door(canvas, at, cell);
  canvas.rectangle(at.x, at.y, kCell, 1, kLine);
  canvas.rectangle(at.x, at.y, 1, kCell, kLine);
  if (cell >= kFirstObject) draw_object(canvas, at, cell);
}

/// Marks the corners of the goal's cell.
void draw_goal_frame(Canvas& canvas, Corner at) {
  constexpr int kLength = 7, kThick = 2, kInset = 2;
  const int far = kCell - kInset;
  for (const int x : {kInset, far - kLength}) {
    for (const int y : {kInset, far - kThick}) canvas.rectangle(at.x + x, at.y + y, kLength, kThick, kGoalFrame);
  }
  for (const int x : {kInset, far - kThick}) {
    for (const int y : {kInset, far - kLength}) canvas.rectangle(at.x + x, at.y + y, kThick, kLength, kGoalFrame);
  }
}

}  // namespace

episode::Image draw_world(const World& world) {
  const int width = kMaxSide * kCell;
  Canvas canvas(width, width + kCaption, kPage);
  const std::string mission = mission_text(world);
  const int scale = Canvas::text_width(mission, 2) <= width ? 2 : 1;
  canvas.text((width - Canvas::text_width(mission, scale)) / 2, scale == 2 ? 5 : 8, mission, kInk, scale);
  const int margin = (width - world.side * kCell) / 2;
  const auto corner = [&](Position p) { return Corner{margin + p.x * kCell, kCaption + margin + p.y * kCell}; };
  const auto view = cells_in_view(world.agent);
  for (int y = 0; y < world.side; ++y) {
    for (int x = 0; x < world.side; ++x) {
      const Position p{x, y};
      draw_cell(canvas, world, p, corner(p), std::find(view.begin(), view.end(), p) != view.end());
    }
  }
  if (world.carrying != world.goal_object) draw_goal_frame(canvas, corner(world.goal));
  if (world.other_object != kEmpty && world.carrying != world.other_object) {
    draw_goal_frame(canvas, corner(world.other));
  }
  draw_agent(canvas, corner(world.agent.position), world.agent.direction);
  // What is carried is shown in the corner above.
  if (world.carrying != kEmpty) draw_object(canvas, {width - kCell, kCaption - 4}, world.carrying);
  return std::move(canvas).take();
}

}  // namespace gato::env::grid
